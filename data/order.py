"""The order in which images are served: a pure function of a seed and a position."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from data.image_set import Batch
from data.permutation import Permutation, generator


def shuffled(num_rows: int, *key: int | str) -> Tensor:
    """Return a permutation of range(num_rows) that depends on nothing but the key: int64 `(num_rows,)`.

    Args:
        num_rows: how many rows to permute.
        *key: as in `generator`.
    """
    return torch.randperm(num_rows, generator=generator(*key))


def split_off(num_rows: int, count: int, *key: int | str, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Choose rows at random and set them aside.

    Args:
        num_rows: number of all rows.
        count: how many rows to set aside; with groups, at least this many.
        *key: as in `generator`.
        groups: int64 `(num_rows,)`; rows of one group stay together.

    Returns:
        The other rows and the rows that were set aside, both sorted.
    """
    if groups is None:
        rows = shuffled(num_rows, *key)
    else:
        names, members = torch.unique(groups, return_inverse=True)
        place = shuffled(len(names), *key)[members]
        rows = place.argsort(stable=True)
        last = place[rows[count - 1]]
        count = int((place <= last).sum())
    aside = torch.zeros(num_rows, dtype=torch.bool)
    aside[rows[:count]] = True
    return (~aside).nonzero()[:, 0], aside.nonzero()[:, 0]


def balanced(labels: Tensor, count: int, *key: int | str) -> Tensor:
    """Choose rows at random, of each label as many as of the others, as long as it has enough.

    The rows of a smaller count are among those of a larger one.

    Args:
        labels: int64 `(num_rows,)`.
        count: how many rows to choose.
        *key: as in `generator`.

    Returns:
        The rows, sorted.
    """
    rows = shuffled(len(labels), *key)
    rows = rows[labels[rows].argsort(stable=True)]
    _, counts = labels[rows].unique_consecutive(return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    turn = torch.arange(len(rows)) - first  # 0 for the first row of each label, 1 for the second, ...
    return rows[turn.argsort(stable=True)][:count].sort().values


class TrainOrder(Sampler[list[int]]):
    """An endless sequence of shuffled batches. One iteration gives as many batches as an epoch has, from `position` on.

    The attribute `position` counts the batches that were served since the start of training.

    Args:
        num_images: number of images in the set.
        batch_size: images per batch, of all ranks together. The incomplete last batch of an epoch is dropped.
        seed: seed of the shuffling.
        rank: the rank whose share of each batch is served.
        world_size: number of ranks.

    Raises:
        ValueError: if there are fewer images than a batch has, or if the ranks would get unequal shares.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if not 1 <= batch_size <= num_images:
            raise ValueError(f"batch_size must lie between 1 and {num_images}, the number of images, got {batch_size}")
        if batch_size % world_size:
            below = batch_size // world_size * world_size
            nearest = f"{below} or {below + world_size}" if below else f"{world_size}"
            raise ValueError(
                f"batch_size {batch_size} counts the images of all ranks and cannot be shared equally by "
                f"{world_size}: use {nearest}"
            )
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = 0

    def __len__(self) -> int:
        return self.num_images // self.batch_size

    def epoch(self, epoch: int) -> Permutation:
        """Return the order of all rows in an epoch, which is the same on all ranks."""
        return Permutation(self.num_images, "epoch", self.seed, epoch)

    def batches(self, epoch: int, places: Sequence[int]) -> Iterator[list[int]]:
        """Give the rows that this rank gets of some batches of an epoch.

        Args:
            epoch: the epoch.
            places: which of its batches, from 0 to len(self) - 1.
        """
        order = self.epoch(epoch)
        for place in places:
            first, end = place * self.batch_size, (place + 1) * self.batch_size
            yield order[torch.arange(first + self.rank, end, self.world_size)].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        epoch, batch = divmod(self.position, len(self))
        yield from self.batches(epoch, range(batch, len(self)))
        yield from self.batches(epoch + 1, range(batch))


class ResumableLoader(DataLoader[Batch]):
    """Loads the batches of a `TrainOrder` and remembers how many of them the consumer has received.

    Build the loader with the order as `sampler` and with `batch_size=None`. Lightning stores the result of `state_dict`
    in checkpoints and gives it back. So a run that stopped in the middle of an epoch continues with the next batch.
    """

    sampler: TrainOrder

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            self.sampler.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position: how many batches the consumer has received."""
        return {"position": self.sampler.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the position that `state_dict` holds."""
        self.sampler.position = state_dict["position"]


class EvalOrder(Sampler[list[int]]):
    """All images in their sequence, with the same number of batches for every rank.

    The rows are padded to a multiple of world_size: they start again from the first row. To count each image once, a
    consumer uses `Batch.index` and drops the images that it has seen before.

    Args:
        num_images: number of images in the set.
        batch_size: images per batch, of all ranks together, rounded up to a multiple of world_size.
        rank: the rank whose share of each batch is served.
        world_size: number of ranks.

    Raises:
        ValueError: if there are no images, or if batch_size is below 1.
    """

    def __init__(self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if num_images < 1 or batch_size < 1:
            raise ValueError(
                f"Evaluation needs images and a batch_size of at least 1, got {num_images} images "
                f"in batches of {batch_size}"
            )
        padded = torch.arange(-(-num_images // world_size) * world_size) % num_images
        self.batches = torch.split(padded[rank::world_size], -(-batch_size // world_size))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batches:
            yield rows.tolist()
