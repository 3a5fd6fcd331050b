"""The images of another source, changed one by one."""

from data.condition import Condition
from data.image_set import Batch, Derived, ImageSet, Source, Splits


class Changed:
    """The images of another source, each changed in the same way; labels, groups and splits stay.

    Args:
        source: the other source.
        change: what is done to images, such as `data.Downsample`, `data.Resize` or `data.Invert`.
    """

    def __init__(self, source: Source, change: Condition) -> None:
        self.source = source
        self.change = change

    def prepare(self) -> None:
        """Make sure that the files of the other source are there."""
        self.source.prepare()

    def load(self) -> Splits:
        """Return the sets of the other source with changed images.

        Raises:
            ValueError: if the change does not fit the images.
        """
        train, test, *val = (ChangedImages(images, self.change) for images in self.source.load())
        return (train, test, val[0]) if val else (train, test)


class ChangedImages(Derived):
    """Another set with changed images.

    Args:
        base: the other set.
        change: what is done to its images.
    """

    def __init__(self, base: ImageSet, change: Condition) -> None:
        super().__init__(base)
        self.change = change
        self.shape = change.shape(base.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.shape

    def __getitem__(self, rows: list[int]) -> Batch:
        batch = self.base[rows]
        return batch._replace(images=self.change(batch.images))
