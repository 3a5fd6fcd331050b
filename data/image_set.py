"""What every source of images gives: sets that are indexed by a whole batch of rows."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Batch(NamedTuple):
    """Images with their labels, places and conditions.

    Args:
        images: uint8 `(B, C, H, W)`.
        labels: int64 `(B,)`, -1 where an image has none.
        index: int64 `(B,)`, the row of each image within its split.
        condition: what a conditional flow is given of each image, uint8 `(B, C', H', W')`; None for nothing.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]
    condition: Tensor | None = None


class ImageSet(Dataset[Batch], ABC):
    """A fixed sequence of images of one shape, read a batch at a time."""

    labels: Tensor
    """int64 `(N,)`, -1 where an image has none; known without decoding an image."""

    groups: Tensor | None = None
    """int64 `(N,)`: variants of one image share a number and stay on one side of every split. None: all differ."""

    class_names: tuple[str, ...] | None = None
    """What each label stands for, from 0 on; None where labels have no names, or there are none."""

    def __len__(self) -> int:
        return len(self.labels)

    def images_of_classes(self) -> Tensor:
        """Return how many images each named class has: int64 `(num_names,)`."""
        return torch.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names or ()))

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""

    @abstractmethod
    def __getitem__(self, rows: list[int]) -> Batch:
        """Return the images of these rows, in this order."""


Splits = tuple[ImageSet, ImageSet] | tuple[ImageSet, ImageSet, ImageSet]
"""Training and test images, and validation images of a source that has its own."""


class Source(Protocol):
    """Where images come from."""

    def prepare(self) -> None:
        """Make the files present; called by one process a machine, cheap when they are."""

    def load(self) -> Splits:
        """Return the training and the test images, and validation images if it has its own; called by every process."""


class TensorImages(ImageSet):
    """Images held in memory.

    Args:
        images: uint8 `(N, C, H, W)`.
        labels: integers `(N,)`; None where there are none.
        groups: int64 `(N,)`, the same number for variants of one image; None if there are none.
        class_names: what each label stands for; None where labels have no names.

    Raises:
        ValueError: if a dtype, a number of dimensions or a length is not as above.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        groups: Tensor | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
        if labels is None:
            labels = torch.full((len(images),), -1)
        if labels.shape != images.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be integers ({len(images)},), one for each image, "
                f"got {labels.dtype} {tuple(labels.shape)}"
            )
        self.images = images
        self.labels = labels.long()
        self.groups = groups
        self.class_names = class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        return Batch(self.images[index], self.labels[index], index)


class Subset(ImageSet):
    """Some rows of another set, counted from zero.

    Args:
        base: the other set.
        rows: int64 `(N,)`, rows of `base`.
    """

    def __init__(self, base: ImageSet, rows: Tensor) -> None:
        self.base = base
        self.rows = rows
        self.labels = base.labels[rows]
        self.groups = None if base.groups is None else base.groups[rows]
        self.class_names = base.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.base.image_shape

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        return self.base[self.rows[index].tolist()]._replace(index=index)
