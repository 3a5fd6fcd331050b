"""Where a trained flow comes from, as its file tells."""

import importlib.metadata
import json
import subprocess
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

PROVENANCE_KEY = "provenance"
"""Where a checkpoint, or the metadata of a safetensors file, keeps it."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a flow, and how good it is.

    Args:
        version: of this project.
        git_commit: of its code, marked where files differed from it; None outside a git checkout.
        data: the source of the images, with its settings, as text.
        class_names: what the labels 0, 1, ... mean, where the source says so.
        split: "val" or "test", of which the figures below are; None before the first validation, as are these.
        num_images: of the split.
        bits_per_dim: mean over the images of the split.
        standard_error: of that mean; None of one image.
        num_draws: of noise, each image.
        noise: its kind, "uniform" or "variational".
        noise_seed: its seed.
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
        """Return which code wrote it."""
        return f"version {self.version}, commit {self.git_commit or 'unknown'}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Provenance":
        """Return it from plain data; what only another version of this project knows is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


def check_class_names(model: list[str] | None, data: list[str] | None) -> None:
    """Check that the labels of a model and of data mean the same, as far as both say what they mean.

    Raises:
        ValueError: if not.
    """
    if model is not None and data is not None and list(model) != list(data):
        raise ValueError(
            f"the model knows the classes {_shortened(model)}, but those of the data are {_shortened(data)}: give the "
            "data that it was trained on, their classes in the same order"
        )


def _shortened(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def describe_data(config: dict[str, Any]) -> str:
    """Return one line of text about a data set, from the plain config of a `data.ImageData`."""
    source = dict(config["source"])
    name = str(source.pop("_target_", "")).rpartition(".")[2]
    split = {key: config.get(key) for key in ("image_shape", "num_val", "split_seed")}
    return f"{name} {json.dumps({**source, **split})}"


def project_version() -> str:
    """Return the version of this project, "unknown" where it is not installed."""
    try:
        return importlib.metadata.version("image-flows")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def git_commit() -> str | None:
    """Return the commit of this code, marked where files differ from it; None outside its own git checkout."""
    here = Path(__file__)
    if _git("ls-files", "--error-unmatch", here.name) is None:  # such as an environment inside of another repository
        return None
    return _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
