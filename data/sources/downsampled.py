"""The images of another source, made smaller."""

from data.condition import Downsample
from data.image_set import Batch, ImageSet, Source, Splits


class Downsampled:
    """The box means of the images of another source: the small images of super-resolution, as a data set.

    Args:
        source: the other source.
        factor: side of a box, in pixels.

    Raises:
        ValueError: if the factor is below 1.
    """

    def __init__(self, source: Source, factor: int) -> None:
        self.source = source
        self.downsample = Downsample(factor)

    def prepare(self) -> None:
        """Make sure that the files of the other source are there."""
        self.source.prepare()

    def load(self) -> Splits:
        """Return the sets of the other source with smaller images.

        Raises:
            ValueError: if the images cannot be cut into boxes.
        """
        train, test, *val = (DownsampledImages(images, self.downsample) for images in self.source.load())
        return (train, test, val[0]) if val else (train, test)


class DownsampledImages(ImageSet):
    """Another set with smaller images.

    Args:
        base: the other set.
        downsample: makes the images smaller.
    """

    def __init__(self, base: ImageSet, downsample: Downsample) -> None:
        self.base = base
        self.downsample = downsample
        self.shape = downsample.shape(base.image_shape)
        self.labels = base.labels
        self.groups = base.groups
        self.class_names = base.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.shape

    def __getitem__(self, rows: list[int]) -> Batch:
        batch = self.base[rows]
        return batch._replace(images=self.downsample(batch.images))
