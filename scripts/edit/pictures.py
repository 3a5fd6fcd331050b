"""Labels of the images that an edit reads, and animations of what became of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from flows.image_flow import ImageFlow
from flows.training.grid import enlarged


def labels_for(flow: ImageFlow, label: int | Sequence[int] | None, count: int) -> Tensor | None:
    """Return the labels of images, on the device of the flow: the one given for all, or one each.

    Raises:
        ValueError: if a class-conditional flow gets none, another flow gets some, or there is not one per image.
    """
    if flow.condition_shape is not None:
        raise ValueError("this flow is given images, and edits are for flows that are not: take another ckpt")
    if flow.num_classes is None:
        if label is not None:
            raise ValueError("this flow was trained without labels: leave label out")
        return None
    if label is None:
        raise ValueError(f"this flow knows {flow.num_classes} classes: say what the images are by label=N, or one each")
    listed = [label] * count if isinstance(label, int) else list(label)
    if len(listed) != count or not all(isinstance(one, int) and 0 <= one < flow.num_classes for one in listed):
        raise ValueError(
            f"label is a number between 0 and {flow.num_classes - 1}, or a list of one for each of the {count} images, "
            f"got {label}"
        )
    return torch.tensor(listed, device=next(flow.parameters()).device)


def save_animation(frames: Tensor, path: Path, seconds: float) -> None:
    """Write frames `(N, C, H, W)` there and back again, as a GIF or WebP, at a size that can be seen.

    Args:
        frames: uint8, grey or colour.
        path: its ending says which kind.
        seconds: of one frame.
    """
    zoom = max(1, 196 // max(frames.shape[2:]))
    shape = (3, frames.shape[2] * zoom, frames.shape[3] * zoom)
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in enlarged(frames.cpu(), shape)]
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    first, *rest = there_and_back
    first.save(path, save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0, **options)
