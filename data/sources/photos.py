"""Patches of photographs: natural images that need no account and no web site, from Debian's archive."""

import io
import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from data.files.debian import unpack
from data.files.qt_resource import files_with_ending
from data.image_set import Splits, TensorImages

logger = logging.getLogger(__name__)

PACKAGE = "gcompris-qt-data"
LEAST_SHRINKING = {
    "clickgame": 3,
    "details": 2,
    "erase": 3,
    "explore_farm_animals": 2,
    "explore_monuments": 2,
    "explore_world_animals": 2,
}
"""The games with photographs, and the least factor by which these must shrink, so that compression is not visible."""
PAINTINGS = "PortraitOf", "Van_Gogh", "VincentVanGogh", "Gogh4", "Eglise_d"
SEEN_TWICE = "TajMahal_", "Neuschwanstein_", "Chenonceau_", "TourEiffel_"
"""Photographs of `details` that are left out, because `explore_monuments` has others of the same buildings."""
LEAST_SIDE = 250
LEAST_COLOUR = 2.0
"""Mean distance between the largest and the smallest channel, in grey levels; photographs below it are grey."""
MARGIN = 0.02
"""The part of a photograph that is cut off at each side."""
SCALES = 5 / 4, 7 / 4, 5 / 2, 7 / 2, 5.0, 7.0
"""Photographs shrink to these lengths of the short side, in units of the side of a patch."""
MOST_PATCHES = 300
"""The most patches of one photograph."""
MOST_SIDE = 128
"""Of a patch: for larger ones, most of the photographs are too small."""
LEAST_CONTRAST = 3.0
"""Standard deviation of a patch, in grey levels; patches below it are flat."""
EVERY, TEST, VAL = 8, 7, 3
"""Of each eight photographs, one is for the test and one for validation."""


class Photos:
    """About 15,000 square patches of 120 photographs of animals, landscapes and buildings, at several scales.

    Every eighth photograph is for the test and another one for validation, with all of its patches. (From GCompris,
    licensed under Creative Commons and the GPL.)

    Args:
        root: folder for the patches. If the `.rcc` files of GCompris are in it, they are used.
        image_shape: (3, S, S), S at most 128.

    Raises:
        ValueError: if image_shape does not have this form.
    """

    def __init__(self, root: str, image_shape: Sequence[int]) -> None:
        channels, height, width = image_shape
        if channels != 3 or height != width:
            raise ValueError(f"patches of photographs are in colour and square, (3, S, S), got {tuple(image_shape)}")
        if width > MOST_SIDE:
            raise ValueError(
                f"patches of photographs have at most {MOST_SIDE}x{MOST_SIDE} pixels, got {width}x{height}"
            )
        self.root = Path(root).expanduser().absolute()
        self.side = width
        self.file = self.root / f"patches-{width}.npz"

    def prepare(self) -> None:
        """Write the patches if they are not there.

        Raises:
            RuntimeError: if the photographs cannot be downloaded; the message says which files to put where.
        """
        if not self.file.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / "prepare.lock"):
                if not self.file.exists():
                    self._write()

    def load(self) -> Splits:
        """Return the patches for training, test and validation.

        Raises:
            FileNotFoundError: if `prepare` has not run.
            ValueError: if the file is damaged.
        """
        try:
            with self.file.open("rb") as file, np.load(file) as arrays:
                images, photos = (torch.from_numpy(arrays[name]) for name in ("images", "photos"))
        except FileNotFoundError:
            raise
        except Exception as error:  # the kind of error depends on the place of the damage
            raise ValueError(f"{self.file} is damaged ({error}): remove it, and it is made again") from error
        part, groups = photos % EVERY, photos.long()
        for_test, for_val = part == TEST, part == VAL
        train, test, val = (
            TensorImages(images[rows], groups=groups[rows]) for rows in (~(for_test | for_val), for_test, for_val)
        )
        return train, test, val

    def _write(self) -> None:
        with TemporaryDirectory(prefix="fetch-", dir=self.root) as name:
            fresh = Path(name)
            folder = self.root
            try:
                if not list(folder.glob("*.rcc")):
                    folder = next(unpack(PACKAGE, fresh).rglob("erase.rcc")).parent
                images, photos = patches(photographs(folder), self.side)
            except (OSError, RuntimeError, StopIteration, ValueError, subprocess.SubprocessError) as error:
                raise RuntimeError(
                    f"the photographs are out of reach: {PACKAGE} of Debian's archive failed "
                    f"({' '.join(str(error).split())}): put its files usr/share/gcompris-qt/rcc/*.rcc into {self.root} "
                    "by hand"
                ) from error
            np.savez_compressed(fresh / "patches.npz", images=images, photos=photos)
            os.replace(fresh / "patches.npz", self.file)
        logger.info("%d patches of %d photographs were written into %s", len(images), photos.max() + 1, self.file)


def photographs(folder: Path) -> Iterator[tuple[Image.Image, float]]:
    """Go through the photographs in the files of GCompris: each with the least factor by which it must shrink.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there are no photographs, or if a file is damaged.
    """
    found = 0
    for game, least_shrinking in LEAST_SHRINKING.items():
        for name, content in sorted(files_with_ending(folder / f"{game}.rcc", (".webp", ".jpg", ".png"))):
            kind = Path(name).name
            left_out = PAINTINGS + SEEN_TWICE if game == "details" else ()
            if kind.startswith(left_out) or (game == "clickgame" and not kind.startswith("sea")):
                continue
            with Image.open(io.BytesIO(content)) as opened:
                if opened.mode != "RGB" or min(opened.size) < LEAST_SIDE:
                    continue
                photo = opened.copy()
            found += 1
            pixels = np.asarray(photo, np.int16)
            if np.ptp(pixels, axis=2).mean() >= LEAST_COLOUR:
                yield photo, least_shrinking
    if not found:
        raise ValueError(f"there are no photographs in {folder}")


def patches(photos: Iterator[tuple[Image.Image, float]], side: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Cut photographs into patches.

    Returns:
        Patches, uint8 `(N, 3, side, side)`, and for each patch the number of its photograph, `(N,)`.
    """
    found, numbers = [], []
    for number, (photo, least_shrinking) in enumerate(photos):
        rng, photo = np.random.default_rng(number), trimmed(photo)
        short_sides = (round(scale * side) for scale in SCALES)
        fitting = [length for length in short_sides if length * least_shrinking <= min(photo.size)]
        if not fitting:
            continue
        of_photo = np.concatenate([cut(shrunk(photo, length), side, rng) for length in fitting])
        of_photo = of_photo[of_photo.std((1, 2, 3)) >= LEAST_CONTRAST]
        kept = np.sort(rng.permutation(len(of_photo))[:MOST_PATCHES])
        found.append(of_photo[kept])
        numbers.append(np.full(len(kept), number, np.int16))
    return np.concatenate(found).transpose(0, 3, 1, 2).copy(), np.concatenate(numbers)


def trimmed(photo: Image.Image) -> Image.Image:
    """Return a photograph without its margins, which may have frames and rounded corners."""
    width, height = photo.size
    left, top = round(MARGIN * width), round(MARGIN * height)
    return photo.crop((left, top, width - left, height - top))


def shrunk(photo: Image.Image, short_side: int) -> NDArray[np.uint8]:
    """Return the pixels of a photograph, shrunk to a short side: `(H, W, 3)`."""
    factor = short_side / min(photo.size)
    width, height = (max(short_side, round(factor * length)) for length in photo.size)
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))


def cut(pixels: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut pixels `(H, W, 3)` into a grid of patches with a random offset: `(N, side, side, 3)`."""
    height, width, _ = pixels.shape
    top, left = (int(rng.integers(length % side + 1)) for length in (height, width))
    rows, columns = height // side, width // side
    grid = pixels[top : top + rows * side, left : left + columns * side]
    return grid.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
