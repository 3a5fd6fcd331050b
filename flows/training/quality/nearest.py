"""The training images that are nearest to others: do samples repeat training images?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import ImageSet


class Neighbours(NamedTuple):
    """The images of a set that are nearest to some images, the nearest first.

    Args:
        rows: of the set, int64 `(B, N)`.
        distances: `(B, N)`.
    """

    rows: Tensor
    distances: Tensor


def pixels(images: Tensor) -> Tensor:
    """Return uint8 images `(B, C, H, W)` as vectors whose distances are root mean squares of grey levels."""
    flat = images.double().flatten(1)
    return flat / flat.shape[1] ** 0.5


def nearest(
    images: Tensor,
    among: ImageSet,
    batch_size: int,
    num_nearest: int = 1,
    described: Callable[[Tensor], Tensor] = pixels,
) -> Neighbours:
    """Find for each image the nearest images of a set.

    Args:
        images: uint8 `(B, C, H, W)`.
        among: the set, read in batches.
        batch_size: images per batch.
        num_nearest: how many of the set to find for each image; fewer if the set has fewer.
        described: turns uint8 images into vectors `(B, F)`, between which the distances are measured.
    """
    wanted = described(images).double().cpu()
    rows, distances = torch.empty(len(images), 0, dtype=torch.long), wanted[:, :0]
    for start in range(0, len(among), batch_size):
        some = torch.arange(start, min(start + batch_size, len(among)))
        gaps = torch.cdist(wanted, described(among[some.tolist()].images).double().cpu())
        rows = torch.cat((rows, some.expand(len(images), -1)), 1)
        distances, order = torch.cat((distances, gaps), 1).sort(stable=True)
        rows, distances = rows.gather(1, order)[:, :num_nearest], distances[:, :num_nearest]
    return Neighbours(rows, distances)
