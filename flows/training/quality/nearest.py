"""The training images that are nearest to samples: do samples repeat training images?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import ImageSet


def nearest(images: Tensor, among: ImageSet, batch_size: int) -> tuple[Tensor, Tensor]:
    """Find for each image the nearest image of a set, by the root mean square of pixel differences.

    Args:
        images: uint8 `(B, C, H, W)`, on the CPU.
        among: the set, read in batches.
        batch_size: images per batch.

    Returns:
        The nearest images, uint8 `(B, C, H, W)`, and their distances in grey levels, `(B,)`.
    """
    wanted = images.double().flatten(1)
    least = torch.full((len(images),), torch.inf, dtype=torch.double)
    found = torch.zeros_like(images)
    for start in range(0, len(among), batch_size):
        batch = among[list(range(start, min(start + batch_size, len(among))))].images
        closest = torch.cdist(wanted, batch.double().flatten(1)).min(1)
        nearer = closest.values < least
        least[nearer] = closest.values[nearer]
        found[nearer] = batch[closest.indices[nearer]]
    return found, least / wanted.shape[1] ** 0.5
