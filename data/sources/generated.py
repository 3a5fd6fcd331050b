"""Pictures that are made on the spot, in place of data that are not here."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from data.image_set import Batch, ImageSet

COARSE = 4
"""Side of the coarse noise from which a picture is enlarged."""


class Generated:
    """Smooth random pictures of any shape, to try out a run without its data: `data.source=generated`.

    Args:
        image_shape: (C, H, W).
        num_classes: number of classes, which images take in turn; None for no labels.
        num_images: number of training images.
        num_test: number of test images.
    """

    def __init__(
        self, image_shape: Sequence[int], num_classes: int | None = None, num_images: int = 1000, num_test: int = 200
    ) -> None:
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_classes = num_classes
        self.num_images = num_images
        self.num_test = num_test

    def prepare(self) -> None:
        """Do nothing, because images are made when they are needed."""

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images."""
        train = torch.arange(self.num_images)
        test = torch.arange(self.num_images, self.num_images + self.num_test)
        sets = (GeneratedImages(self.picture, self.image_shape, seeds, self.num_classes) for seeds in (train, test))
        return tuple(sets)  # type: ignore[return-value]

    def picture(self, generator: torch.Generator) -> Tensor:
        """Return the picture that a generator draws: uint8 `(C, H, W)`."""
        channels, height, width = self.image_shape
        coarse = torch.randn(1, channels, COARSE, COARSE, generator=generator)
        smooth = interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
        fine = torch.randn(self.image_shape, generator=generator)
        return (128 + 50 * smooth + 4 * fine).clamp(0, 255).to(torch.uint8)


class GeneratedImages(ImageSet):
    """Random pictures, each a function of its seed.

    Args:
        picture: draws a picture by a generator.
        image_shape: (C, H, W).
        seeds: int64 `(N,)`, one for each image.
        num_classes: number of classes, which seeds take in turn; None for no labels.
    """

    def __init__(
        self,
        picture: Callable[[torch.Generator], Tensor],
        image_shape: tuple[int, int, int],
        seeds: Tensor,
        num_classes: int | None,
    ) -> None:
        self.picture = picture
        self.shape = image_shape
        self.seeds = seeds
        self.labels = torch.full_like(seeds, -1) if num_classes is None else seeds % num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.shape

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        pictures = [self.picture(torch.Generator().manual_seed(int(seed))) for seed in self.seeds[index]]
        return Batch(torch.stack(pictures), self.labels[index], index)
