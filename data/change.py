"""Changes of whole data sets, for example to see what a flow makes of images that it was not trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from data.order import shuffled

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


class Invert:
    """Turn dark into bright: grey level v becomes 255 - v."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the negatives of uint8 images `(B, C, H, W)`."""
        return 255 - images

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the images themselves."""
        return image_shape[0], image_shape[1], image_shape[2]


class Rotate:
    """Turn images by quarter turns to the left.

    Args:
        quarter_turns: how many.
    """

    def __init__(self, quarter_turns: int) -> None:
        self.quarter_turns = quarter_turns

    def __call__(self, images: Tensor) -> Tensor:
        """Return turned uint8 images `(B, C, H, W)`."""
        return images.rot90(self.quarter_turns, (2, 3))

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H, W), or (C, W, H) for an odd number of quarter turns."""
        channels, height, width = image_shape
        return (channels, width, height) if self.quarter_turns % 2 else (channels, height, width)


class Resize:
    """Scale images to another size (bilinear, with antialiasing where they get smaller).

    Args:
        height: H of the scaled images, in pixels.
        width: W of the scaled images, in pixels.

    Raises:
        ValueError: if the size is below 1.
    """

    def __init__(self, height: int, width: int) -> None:
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        self.size = (height, width)

    def __call__(self, images: Tensor) -> Tensor:
        """Return scaled uint8 images `(B, C, height, width)` of images `(B, C, H, W)`."""
        return resize(images, [*self.size], InterpolationMode.BILINEAR, antialias=True)

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, height, width)."""
        return image_shape[0], *self.size


class Grey:
    """Make colour images grey, with the weights of luma."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 images `(B, 1, H, W)` of colour images `(B, 3, H, W)`."""
        weights = images.new_tensor(LUMA, dtype=torch.float).view(3, 1, 1)
        return (images * weights).sum(1, keepdim=True).round().to(images.dtype)

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (1, H, W).

        Raises:
            ValueError: if the images are not colour images.
        """
        channels, height, width = image_shape
        if channels != 3:
            raise ValueError(f"images with {channels} channels are no colour images: leave data.Grey out")
        return 1, height, width


class ShuffleTiles:
    """Cut images into square tiles, and put these together in another order, the same for all images.

    The details stay, and the content is lost.

    Args:
        side: of a tile, in pixels.
        seed: chooses the order.

    Raises:
        ValueError: if the side is below 1.
    """

    def __init__(self, side: int, seed: int = 0) -> None:
        if side < 1:
            raise ValueError(f"the side of a tile must be at least 1, got {side}")
        self.side = side
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 images `(B, C, H, W)` with their tiles in another order."""
        _, height, width = self.shape(images.shape[1:])
        rows, columns = height // self.side, width // self.side
        tiles = images.unflatten(3, (columns, self.side)).unflatten(2, (rows, self.side)).transpose(3, 4)
        mixed = tiles.flatten(2, 3)[:, :, shuffled(rows * columns, "tiles", self.seed)]
        return mixed.unflatten(2, (rows, columns)).transpose(3, 4).reshape(images.shape)

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H, W).

        Raises:
            ValueError: if H or W is not a multiple of the side.
        """
        channels, height, width = image_shape
        if height % self.side or width % self.side:
            raise ValueError(
                f"images of {height}x{width} pixels cannot be cut into tiles of {self.side}x{self.side}: give a side "
                "that divides both"
            )
        return channels, height, width
