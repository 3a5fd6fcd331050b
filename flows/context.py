"""The context of a conditional flow: features and labels that its parts read in addition to the image."""

import torch
from torch import Tensor

Context = Tensor | tuple[Tensor, ...]
"""One tensor or several. Features `(B, E, 1, 1)` are the same for all pixels. Features `(B, E, H, W)` are for parts
that work at this size. Whole numbers `(B,)` are labels. Each part of a flow takes the entries that it reads."""


def entries(context: Context | None) -> tuple[Tensor, ...]:
    """Return the tensors of a context, none for None."""
    if context is None:
        return ()
    return (context,) if isinstance(context, Tensor) else context


def features_at(context: Context | None, x: Tensor, channels: int) -> Tensor:
    """Return the features for a part that works at the size of `x` `(B, C, H, W)`: `(B, E, H, W)`.

    Args:
        context: its entry of this size is taken, or else its entry that is the same for all pixels.
        x: the input of the part.
        channels: E.

    Raises:
        ValueError: if there are no such features.
    """
    features = [entry for entry in entries(context) if entry.is_floating_point()]
    for size in x.shape[2:], (1, 1):
        for entry in features:
            if entry.shape[2:] == size and entry.shape[0] == x.shape[0] and entry.shape[1] == channels:
                return entry.to(x.dtype).expand(-1, -1, *x.shape[2:])
    height, width = x.shape[2:]
    got = ", ".join(str(tuple(entry.shape)) for entry in features) or "none"
    raise ValueError(
        f"a conditional layer reads features ({x.shape[0]}, {channels}, {height}, {width}), or "
        f"({x.shape[0]}, {channels}, 1, 1) with the same values for all pixels, got {got}"
    )


def joined(x: Tensor, context: Context | None, channels: int) -> Tensor:
    """Return `x` `(B, C, H, W)` with the features of its size behind its channels; unchanged for 0 features."""
    return torch.cat((x, features_at(context, x, channels)), 1) if channels else x


def labels_for(context: Context | None, x: Tensor) -> Tensor:
    """Return the labels of a context for a part that gets `x` `(B, C, H, W)`: `(B,)`.

    Raises:
        ValueError: if there is not one label for each image.
    """
    label = next((entry for entry in entries(context) if not entry.is_floating_point()), None)
    if label is None or label.shape != x.shape[:1]:
        got = "none" if label is None else tuple(label.shape)
        raise ValueError(f"a class-conditional flow needs a label for each image, ({len(x)},), got {got}")
    return label
