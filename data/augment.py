"""Random variations of training images. Each variation is a pure function of (seed, step, image)."""

import torch
from torch import Tensor

from data.image_set import Batch, Derived, ImageSet
from flows.noise import uniform_noise

SEED_OFFSET = 2**32
"""Keeps the draws apart from the dequantization noise of the same seed, step and image."""

NUM_GREY = 256
"""Grey levels of a uint8 image."""


class Augment:
    """Mirror, shift and crop the images of a training batch.

    Args:
        horizontal_flip: whether to mirror half of the images.
        max_shift: the most pixels that an image moves in each direction. New pixels at the edge repeat the edge.
        random_crop: whether to cut the images out of larger ones, at random places.
        redraw: part of the values that are replaced by random grey levels. Background flows are trained so (Ren et al.
            2019, arXiv:1906.02845): they learn what images share with their spoiled versions.

    Raises:
        ValueError: if max_shift is negative, or redraw is no part.
    """

    def __init__(
        self, *, horizontal_flip: bool = False, max_shift: int = 0, random_crop: bool = False, redraw: float = 0.0
    ) -> None:
        if max_shift < 0:
            raise ValueError(f"max_shift must be at least 0, got {max_shift}")
        if not 0 <= redraw <= 1:
            raise ValueError(f"redraw is a part, from 0 to 1, got {redraw}")
        self.redraw = redraw
        self.horizontal_flip = horizontal_flip
        self.max_shift = max_shift
        self.random_crop = random_crop

    def __call__(self, batch: Batch, size: tuple[int, int], *, seed: int, step: int) -> Batch:
        """Return the batch with its images varied.

        Args:
            batch: images uint8 `(B, C, H, W)` with their rows in the set.
            size: (H, W) of the result.
            seed: seed of the run.
            step: training step.
        """
        batch = self._moved(batch, size, seed, step)
        if not self.redraw:
            return batch
        draws = uniform_noise(batch.index, (2, *batch.images.shape[1:]), seed=seed + 2 * SEED_OFFSET, stream=step)
        levels = (draws[:, 1] * NUM_GREY).to(batch.images.dtype)
        return batch._replace(images=torch.where(draws[:, 0] < self.redraw, levels, batch.images))

    def _moved(self, batch: Batch, size: tuple[int, int], seed: int, step: int) -> Batch:
        if not (self.horizontal_flip or self.max_shift or self.random_crop):
            return batch
        draws = uniform_noise(batch.index, (5,), seed=seed + SEED_OFFSET, stream=step)
        (height, width), (out_height, out_width) = batch.images.shape[2:], size
        shifts = 2 * self.max_shift + 1
        top = (draws[:, 0] * (height - out_height + 1)).long() + (draws[:, 1] * shifts).long() - self.max_shift
        left = (draws[:, 2] * (width - out_width + 1)).long() + (draws[:, 3] * shifts).long() - self.max_shift
        flip = (draws[:, 4] < 0.5) & self.horizontal_flip
        device = batch.images.device
        rows = top[:, None] + torch.arange(out_height, device=device)
        columns = torch.arange(out_width, device=device).expand(len(flip), -1)
        columns = left[:, None] + torch.where(flip[:, None], columns.flip(1), columns)
        return batch._replace(images=take(batch.images, rows.clamp(0, height - 1), columns.clamp(0, width - 1)))


def take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels of `images` `(B, C, H, W)` at `rows` `(B, H')` and `columns` `(B, W')`.

    Returns:
        `(B, C, H', W')`.
    """
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


class CentreCrop(Derived):
    """The middle of every image of another set.

    Args:
        base: the other set.
        size: (H, W) of the middle.
    """

    def __init__(self, base: ImageSet, size: tuple[int, int]) -> None:
        super().__init__(base)
        self.size = size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.base.image_shape[0], *self.size

    def __getitem__(self, rows: list[int]) -> Batch:
        batch = self.base[rows]
        top, left = ((have - want) // 2 for have, want in zip(self.base.image_shape[1:], self.size, strict=True))
        return batch._replace(images=batch.images[:, :, top : top + self.size[0], left : left + self.size[1]])
