"""Labels of the images that an edit reads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flows.image_flow import ImageFlow


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
        raise ValueError(f"this flow knows {flow.num_classes} classes: say what the images are by label=N")
    listed = [label] * count if isinstance(label, int) else list(label)
    if len(listed) != count or not all(isinstance(one, int) and 0 <= one < flow.num_classes for one in listed):
        several = "" if isinstance(label, int) else f", or a list of one for each of the {count} images"
        raise ValueError(f"label is a number between 0 and {flow.num_classes - 1}{several}, got {label}")
    return torch.tensor(listed, device=next(flow.parameters()).device)
