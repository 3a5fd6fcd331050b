"""Where a trained flow comes from, as its file says."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

PROVENANCE_KEY = "provenance"
"""The key of the provenance in a checkpoint, or in the metadata of a safetensors file."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a flow was made, and how good it is.

    Args:
        version: of this project.
        git_commit: of its code, marked if files differed from that commit; None outside a git checkout.
        data: the source of the images, with its settings, as text.
        class_names: what the labels 0, 1, ... mean, if the source says so.
        split: "val" or "test": where the figures below were measured; all are None before the first validation.
        num_images: number of images in the split.
        bits_per_dim: mean over the images of the split.
        standard_error: of that mean; None for a single image.
        num_draws: number of noise draws per image.
        noise: kind of the noise, "uniform" or "variational".
        noise_seed: seed of the noise.
    """

    version: str = "unknown"
    git_commit: str | None = None
    data: str | None = None
    class_names: list[str] | None = None
    split: str | None = None
    num_images: int | None = None
    bits_per_dim: float | None = None
    standard_error: float | None = None
    num_draws: int | None = None
    noise: str | None = None
    noise_seed: int | None = None

    @property
    def origin(self) -> str:
        """Return which code wrote the flow."""
        return f"version {self.version}, commit {self.git_commit or 'unknown'}"

    def as_dict(self) -> dict[str, Any]:
        """Return the provenance as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Provenance":
        """Return a provenance from plain data; keys that only another version of this project knows are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


def check_class_names(model: Sequence[str] | None, data: Sequence[str] | None) -> None:
    """Check that the labels of a model and of data mean the same, if both say what their labels mean.

    Raises:
        ValueError: if the meanings differ.
    """
    if model is not None and data is not None and list(model) != list(data):
        raise ValueError(
            f"the model knows the classes {_shortened(model)}, but those of the data are {_shortened(data)}: give the "
            "data that it was trained on, their classes in the same order"
        )


def _shortened(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
