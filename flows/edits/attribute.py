"""Attributes: the direction in latent space from images without something to images with it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow


@dataclass(frozen=True)
class Attribute:
    """A direction in latent space (Glow, section 6: manipulation of attributes).

    Args:
        name: of the attribute.
        direction: `(C_l, H_l, W_l)` for each level, finest first: mean of the latents with it less that without.
        num_with: number of images with the attribute, from which it was made.
        num_without: number of images without it.
        flow: fingerprint of the flow to which the latents belong.
    """

    name: str
    direction: list[Tensor]
    num_with: int
    num_without: int
    flow: str

    def applied(self, zs: Sequence[Tensor], strength: float) -> list[Tensor]:
        """Return latents moved along the direction; strength 1 is the whole way between the means."""
        return [z + strength * part.to(z) for z, part in zip(zs, self.direction, strict=True)]

    def save(self, path: str | Path) -> None:
        """Write a `.safetensors` file, with the counts in its metadata."""
        about = {"name": self.name, "num_with": self.num_with, "num_without": self.num_without, "flow": self.flow}
        levels = {f"z{level}": part.contiguous().cpu() for level, part in enumerate(self.direction)}
        save_file(levels, str(path), {"attribute": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path, flow: ImageFlow) -> "Attribute":
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no such file, or belongs to another flow.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist: give a file that an attribute was saved into")
        try:
            with safe_open(str(path), "pt") as file:
                about = json.loads((file.metadata() or {})["attribute"])
                direction = [file.get_tensor(f"z{level}") for level in range(len(file.keys()))]
                found = cls(direction=direction, **about)
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise ValueError(f"{path} holds no attribute: give a file that an attribute was saved into") from error
        if found.flow != fingerprint(flow):
            raise ValueError(f"{path} is an attribute of another flow: make it again with this one")
        return found


def attribute_between(
    flow: ImageFlow, name: str, having: Sequence[Sequence[Tensor]], lacking: Sequence[Sequence[Tensor]]
) -> Attribute:
    """Make an attribute from the latents of images with it and of images without it.

    Args:
        flow: to which the latents belong.
        name: of the attribute.
        having: batches of latents of images with the attribute, each as `ImageFlow.encode` returns them.
        lacking: batches of latents of images without it.

    Raises:
        ValueError: if one side has no image.
    """
    sides = []
    for what, batches in (("with", having), ("without", lacking)):
        count = sum(len(zs[0]) for zs in batches)
        if count == 0:
            raise ValueError(f"there is no image {what} {name}: give at least one")
        sums = [torch.stack([z.double().sum(0).cpu() for z in level]).sum(0) for level in zip(*batches, strict=True)]
        sides.append((count, [total / count for total in sums]))
    (num_with, mean_with), (num_without, mean_without) = sides
    direction = [(one - other).float() for one, other in zip(mean_with, mean_without, strict=True)]
    return Attribute(name, direction, num_with, num_without, fingerprint(flow))
