"""MNIST, from torchvision's mirrors."""

from functools import partial
from pathlib import Path

from torchvision import datasets

from data.files.download import download
from data.files.idx import fetch_if_damaged, load
from data.image_set import ImageSet

NAMES = tuple("0123456789")


class MNIST:
    """60,000 training and 10,000 test images of handwritten digits, (1, 28, 28), ten classes.

    Args:
        root: the files are where torchvision puts them, in root/MNIST/raw.
    """

    num_images = 60_000

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()

    def prepare(self) -> None:
        """Fetch the files that are missing or incomplete.

        Raises:
            RuntimeError: if none of torchvision's mirrors gives the files; the message says which files to put where.
        """
        origins = {mirror: partial(from_mirror, mirror) for mirror in datasets.MNIST.mirrors}
        fetch_if_damaged(self.root / "MNIST" / "raw", "MNIST", origins)

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        return load(datasets.MNIST, self.root, NAMES)


def from_mirror(mirror: str, folder: Path) -> Path:
    """Download the files into an empty folder by torchvision, if a mirror answers.

    Returns:
        The folder where the files are.

    Raises:
        OSError: if the mirror does not answer.
        RuntimeError: if a file arrives damaged.
    """
    name, _ = datasets.MNIST.resources[-1]
    download(datasets.MNIST, mirror + name, folder)
    return folder / "MNIST" / "raw"
