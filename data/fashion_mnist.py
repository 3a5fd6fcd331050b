"""Fashion-MNIST, from torchvision's mirror or from Debian's archive."""

import gzip
import shutil
import subprocess
from pathlib import Path

from torchvision import datasets

from data.download import download
from data.idx import SHAPES, fetch_if_damaged, load
from data.image_set import ImageSet

PACKAGE = "dataset-fashion-mnist"
APT_OPTIONS = (
    "--option=APT::Sandbox::User=root",
    "--option=Acquire::Retries=0",
    "--option=Acquire::http::Timeout=10",
    "--option=Acquire::https::Timeout=10",
)
APT_SECONDS = 180


class FashionMNIST:
    """60,000 training and 10,000 test images of clothes, (1, 28, 28), ten classes.

    Args:
        root: the files lie where torchvision puts them, in root/FashionMNIST/raw.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()  # apt takes relative folders for its own
        self.raw = self.root / "FashionMNIST" / "raw"

    def prepare(self) -> None:
        """Fetch the files that are missing or half-finished.

        Raises:
            RuntimeError: if neither torchvision's mirror nor Debian's archive gives them; the message says what to
                put where.
        """
        fetch_if_damaged(
            self.raw, "Fashion-MNIST", {"torchvision's mirror": from_mirror, "Debian's archive": from_debian}
        )

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        return load(datasets.FashionMNIST, self.root)


def from_mirror(folder: Path) -> Path:
    """Download into an empty folder by torchvision.

    Returns:
        The folder where the files lie.

    Raises:
        OSError: if the mirror does not answer.
        RuntimeError: if a file arrives damaged.
    """
    mirror, (name, _) = datasets.FashionMNIST.mirrors[0], datasets.FashionMNIST.resources[-1]
    download(datasets.FashionMNIST, mirror + name, folder)
    return folder / "FashionMNIST" / "raw"


def from_debian(folder: Path) -> Path:
    """Download into an empty folder by apt, without touching the system.

    Returns:
        The folder where the files lie.

    Raises:
        OSError: if a command or an expected file is missing.
        RuntimeError: if a command fails.
        subprocess.TimeoutExpired: if a command does not end.
    """
    lists, cache = folder / "lists", folder / "cache"
    for place in (lists / "partial", cache / "archives" / "partial"):
        place.mkdir(parents=True)
    apt = ["apt-get", *APT_OPTIONS, f"--option=Dir::Cache={cache}"]
    try:
        run(*apt, "download", PACKAGE, folder=folder)
    except RuntimeError:
        apt += [f"--option=Dir::State::lists={lists}"]
        run(*apt, "update", folder=folder)
        run(*apt, "download", PACKAGE, folder=folder)
    run("dpkg-deb", "-x", *(package.name for package in folder.glob("*.deb")), "unpacked", folder=folder)
    for name in SHAPES:
        packed = folder / "unpacked" / "usr" / "share" / "datasets" / "fashion-mnist" / f"{name}.gz"
        with gzip.open(packed) as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    return folder


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder.

    Raises:
        OSError: if there is no such command.
        RuntimeError: if it fails; the message ends in the last line of what it complained about.
        subprocess.TimeoutExpired: if it takes longer than APT_SECONDS.
    """
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_SECONDS)
    if result.returncode:
        complaint = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{command[0]} says: {complaint}")
