"""The four files of MNIST and of data sets in the same format, and how to get them into a folder."""

import logging
import struct
import subprocess
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from torchvision import datasets

from data.image_set import ImageSet, TensorImages

logger = logging.getLogger(__name__)

SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}

Fetch = Callable[[Path], Path]
"""A function that fills an empty folder, and returns the folder where the four files are."""


def damaged_files(folder: Path) -> list[str]:
    """Return the names of the files that are missing or have a wrong header or size."""

    def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
        header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
        if not path.is_file() or path.stat().st_size != len(header) + prod(shape):
            return False
        with path.open("rb") as file:
            return file.read(len(header)) == header

    return [name for name, shape in SHAPES.items() if not is_whole(folder / name, shape)]


def fetch_if_damaged(raw: Path, name: str, origins: Mapping[str, Fetch]) -> None:
    """Get the four files from the first origin that gives complete ones, unless they are there already.

    Args:
        raw: the folder for the files.
        name: the name of the data set in messages.
        origins: functions that fetch the files, by their names in messages.

    Raises:
        RuntimeError: if no origin gives the files; the message says which files to put where.
    """
    if not damaged_files(raw):
        return
    raw.mkdir(parents=True, exist_ok=True)
    with FileLock(raw.parent / "prepare.lock"):
        if damaged_files(raw):
            _fetch(raw, name, origins)


def load(dataset: type[datasets.MNIST], root: Path, class_names: tuple[str, ...]) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images of a torchvision data set.

    Raises:
        FileNotFoundError: if the files are not there.
    """
    raw = root / dataset.__name__ / "raw"
    if damaged := damaged_files(raw):
        raise FileNotFoundError(f"{raw} lacks a whole {', '.join(damaged)}: run prepare() first")
    train, test = (
        TensorImages(part.data.unsqueeze(1), part.targets, class_names=class_names)
        for part in (dataset(root, train=True), dataset(root, train=False))
    )
    return train, test


def _fetch(raw: Path, name: str, origins: Mapping[str, Fetch]) -> None:
    failures = []
    for origin, fetch in origins.items():
        with TemporaryDirectory(prefix="fetch-", dir=raw.parent) as folder:
            try:
                fresh = fetch(Path(folder))
                if damaged := damaged_files(fresh):
                    raise RuntimeError(f"it gave no valid {', '.join(damaged)}")
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                failures.append(f"{origin} failed ({' '.join(str(error).split())})")
                continue
            for file in SHAPES:
                (fresh / file).replace(raw / file)
            logger.info("%s was fetched from %s into %s", name, origin, raw)
            return
    raise RuntimeError(
        f"{name} is out of reach: {' and '.join(failures)}: "
        f"put these four files, unzipped, into {raw} by hand: {', '.join(SHAPES)}"
    )
