"""The contract of sources: they give sets of images, which are indexed by a whole batch of rows."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Batch(NamedTuple):
    """Images with their labels, places and conditions.

    Args:
        images: uint8 `(B, C, H, W)`.
        labels: int64 `(B,)`, -1 for an image without a label.
        index: int64 `(B,)`, the row of each image within its split.
        condition: what a conditional flow is given for each image, uint8 `(B, C', H', W')`; None for nothing.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]
    condition: Tensor | None = None


class ImageSet(Dataset[Batch], ABC):
    """A fixed sequence of images of one shape, which is read in batches."""

    labels: Tensor
    """int64 `(N,)`, -1 for an image without a label; known without decoding an image."""

    groups: Tensor | None = None
    """int64 `(N,)`: variants of one image share a number and stay on one side of every split. None: no variants."""

    class_names: tuple[str, ...] | None = None
    """The name of each label, from 0 on; None if labels have no names, or if there are no labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str | None:
        """Return the name of the file of an image; None if the image is not a file of its own."""
        return None

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
"""Training images, test images and, if the source has its own, validation images."""


@runtime_checkable
class Source(Protocol):
    """A source of images."""

    def prepare(self) -> None:
        """Make sure that the files are there. One process per machine calls this; it is cheap if they are there."""

    def load(self) -> Splits:
        """Return the training, the test and, if the source has its own, the validation images.

        Every process calls this.
        """


class TensorImages(ImageSet):
    """Images that are kept in memory.

    Args:
        images: uint8 `(N, C, H, W)`.
        labels: integers `(N,)`; None if there are no labels.
        groups: int64 `(N,)`, the same number for variants of one image; None if there are no variants.
        class_names: the name of each label; None if labels have no names.
        names: the name of the file of each image; None if the images are not files of their own.

    Raises:
        ValueError: if a dtype, a number of dimensions or a length is not as stated above.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        groups: Tensor | None = None,
        class_names: tuple[str, ...] | None = None,
        names: Sequence[str] | None = None,
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
        self.names = names

    def name(self, row: int) -> str | None:
        return None if self.names is None else self.names[row]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        return Batch(self.images[index], self.labels[index], index)


class Derived(ImageSet):
    """Another set whose images are changed one by one; all that is known about them stays.

    Args:
        base: the other set.
    """

    def __init__(self, base: ImageSet) -> None:
        self.base = base
        self.labels = base.labels
        self.groups = base.groups
        self.class_names = base.class_names

    def name(self, row: int) -> str | None:
        return self.base.name(row)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.base.image_shape


class Subset(Derived):
    """Some rows of another set, which are counted from zero again.

    Args:
        base: the other set.
        rows: int64 `(N,)`, rows of `base`.
    """

    def __init__(self, base: ImageSet, rows: Tensor) -> None:
        super().__init__(base)
        self.rows = rows
        self.labels = base.labels[rows]
        self.groups = None if base.groups is None else base.groups[rows]

    def name(self, row: int) -> str | None:
        return self.base.name(int(self.rows[row]))

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        return self.base[self.rows[index].tolist()]._replace(index=index)


class Joined(ImageSet):
    """Several sets of images of one shape and with the same classes, one after the other.

    Args:
        parts: the sets.
    """

    def __init__(self, parts: Sequence[ImageSet]) -> None:
        self.parts = parts
        self.starts = [0, *accumulate(map(len, parts))]
        self.labels = torch.cat([part.labels for part in parts])
        self.class_names = parts[0].class_names

    def name(self, row: int) -> str | None:
        part, row = self._place(row)
        return part.name(row)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.parts[0].image_shape

    def __getitem__(self, rows: list[int]) -> Batch:
        runs = groupby(map(self._place, rows), key=itemgetter(0))
        batches = [part[[row for _, row in places]] for part, places in runs]
        images, labels = (torch.cat([getattr(one, name) for one in batches]) for name in ("images", "labels"))
        return Batch(images, labels, torch.tensor(rows, dtype=torch.long))

    def _place(self, row: int) -> tuple[ImageSet, int]:
        number = bisect_right(self.starts, row) - 1
        return self.parts[number], row - self.starts[number]
