"""The conditions of a conditional flow: what it is given for each image, such as a small version of the image."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from data.image_set import Batch, Derived, ImageSet


@runtime_checkable
class Condition(Protocol):
    """Makes conditions from the images themselves."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the conditions of uint8 images `(B, C, H, W)`: uint8 `(B, C', H', W')`."""

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape (C', H', W') of the conditions of images of shape (C, H, W)."""


class Downsample:
    """Take the mean of each box of pixels, rounded to whole grey levels. Super-resolution starts from these images.

    Args:
        factor: side of a box, in pixels.

    Raises:
        ValueError: if the factor is below 1.
    """

    def __init__(self, factor: int) -> None:
        if factor < 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        self.factor = factor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the box means of uint8 images `(B, C, H, W)`. Halves are rounded up.

        Returns:
            uint8 `(B, C, H / factor, W / factor)`.
        """
        channels, height, width = self.shape(images.shape[1:])
        boxes = images.reshape(len(images), channels, height, self.factor, width, self.factor)
        count = self.factor**2
        return ((2 * boxes.int().sum((3, 5)) + count) // (2 * count)).to(images.dtype)

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H / factor, W / factor).

        Raises:
            ValueError: if H or W is not a multiple of the factor.
        """
        channels, height, width = image_shape
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"images of {height}x{width} pixels cannot be cut into boxes of {self.factor}x{self.factor}: give a "
                "factor that divides both"
            )
        return channels, height // self.factor, width // self.factor


class Conditioned(Derived):
    """Another set, with the condition of each image.

    Args:
        base: the other set.
        condition: makes the conditions.
    """

    def __init__(self, base: ImageSet, condition: Condition) -> None:
        super().__init__(base)
        self.condition = condition

    def __getitem__(self, rows: list[int]) -> Batch:
        batch = self.base[rows]
        return batch._replace(condition=self.condition(batch.images))
