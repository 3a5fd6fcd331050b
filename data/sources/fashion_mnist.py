"""Fashion-MNIST, from torchvision's mirror or from Debian's archive."""

import gzip
import shutil
from pathlib import Path

from torchvision import datasets

from data.files.debian import unpack
from data.files.download import download
from data.files.idx import SHAPES, fetch_if_damaged, load
from data.image_set import ImageSet

PACKAGE = "dataset-fashion-mnist"


class FashionMNIST:
    """60,000 training and 10,000 test images of clothes, (1, 28, 28), ten classes.

    Args:
        root: the files are where torchvision puts them, in root/FashionMNIST/raw.
    """

    num_images = 60_000

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()  # apt would look for a relative path in its own folders
        self.raw = self.root / "FashionMNIST" / "raw"

    def prepare(self) -> None:
        """Fetch the files that are missing or incomplete.

        Raises:
            RuntimeError: if neither torchvision's mirror nor Debian's archive gives the files; the message says which
                files to put where.
        """
        fetch_if_damaged(
            self.raw, "Fashion-MNIST", {"torchvision's mirror": from_mirror, "Debian's archive": from_debian}
        )

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        return load(datasets.FashionMNIST, self.root, tuple(datasets.FashionMNIST.classes))


def from_mirror(folder: Path) -> Path:
    """Download the files into an empty folder by torchvision.

    Returns:
        The folder where the files are.

    Raises:
        OSError: if the mirror does not answer.
        RuntimeError: if a file arrives damaged.
    """
    mirror, (name, _) = datasets.FashionMNIST.mirrors[0], datasets.FashionMNIST.resources[-1]
    download(datasets.FashionMNIST, mirror + name, folder)
    return folder / "FashionMNIST" / "raw"


def from_debian(folder: Path) -> Path:
    """Unpack the files of Debian's package into an empty folder.

    Returns:
        The folder where the files are.

    Raises:
        OSError: if an expected file is missing, or as in `unpack`.
        RuntimeError: as in `unpack`.
        subprocess.TimeoutExpired: as in `unpack`.
    """
    unpacked = unpack(PACKAGE, folder)
    for name in SHAPES:
        packed = unpacked / "usr" / "share" / "datasets" / "fashion-mnist" / f"{name}.gz"
        with gzip.open(packed) as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    return folder
