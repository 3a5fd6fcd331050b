"""Noto Color Emoji: small pictures in colour, from Debian's archive."""

import logging
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from data.files.debian import unpack
from data.image_set import Splits
from data.sources.image_folder import ImageFolder

logger = logging.getLogger(__name__)

PACKAGE = "fonts-noto-color-emoji"
FONT = "NotoColorEmoji.ttf"
VARIANTS = {0xFE0F, 0x200D, 0x2640, 0x2642, *range(0x1F3FB, 0x1F400), *range(0x1F9B0, 0x1F9B4)}
"""Code points that vary a picture: presentation, a joiner, genders, skin tones, kinds of hair."""
PERSON = 0x1F9D1
PERSONS = {0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F474, 0x1F475, 0x1F9D2, 0x1F9D3}
"""Girls, boys, men and women of any age. As a doctor or in a family, they are all drawn in nearly the same way."""


class Emoji:
    """About 3,900 pictures of 136x128 pixels on white, scaled to image_shape.

    A tenth of the pictures is set aside for the test. The variants of a picture (skin tones, genders, families) stay
    together in the test and in validation. Otherwise nearly the same picture would also be a training image.
    (Google's font, licensed under the OFL 1.1.)

    Args:
        root: folder for the pictures, with names GROUP_NUMBER.png. If NotoColorEmoji.ttf is in it, this file is used.
        image_shape: (3, H, W).
        index_dir: as in `ImageFolder`.
        seed: chooses the test images.
    """

    def __init__(self, root: str, image_shape: Sequence[int], index_dir: str, seed: int = 0) -> None:
        self.root = Path(root).expanduser().absolute()
        self.pictures = self.root / "pictures"
        self.folder = ImageFolder(str(self.pictures), image_shape, index_dir, seed=seed, group="[^_]+", in_memory=True)

    def prepare(self) -> None:
        """Write the pictures if they are not there.

        Raises:
            ModuleNotFoundError: if fontTools is not installed.
            RuntimeError: if the font cannot be downloaded; the message says which file to put where.
            ValueError: if the font in the folder is damaged, or of another kind.
        """
        if not self.pictures.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / "prepare.lock"):
                if not self.pictures.exists():
                    self._write()
        self.folder.prepare()

    def load(self) -> Splits:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if `prepare` has not run.
        """
        return self.folder.load()

    def _write(self) -> None:
        with TemporaryDirectory(prefix="fetch-", dir=self.root) as name:
            fresh = Path(name)
            font = self.root / FONT
            if not font.exists():
                try:
                    font = next(unpack(PACKAGE, fresh).rglob(FONT))
                except (OSError, RuntimeError, StopIteration, subprocess.SubprocessError) as error:
                    raise RuntimeError(
                        f"the emoji are out of reach: Debian's archive failed ({' '.join(str(error).split())}): put "
                        f"{FONT}, of the bitmap kind (CBDT), into {self.root} by hand"
                    ) from error
            made = fresh / "pictures"
            made.mkdir()
            count = 0
            for group, pictures in groupby(sorted(bitmaps(font)), key=lambda pair: pair[0]):
                for number, (_, png) in enumerate(pictures):
                    (made / f"{group}_{number}.png").write_bytes(png)
                    count += 1
            shutil.move(made, self.pictures)
        logger.info("%d emoji were written into %s", count, self.pictures)


def bitmaps(font: Path) -> list[tuple[str, bytes]]:
    """Return all different pictures of a bitmap font: for each, the name of its group and the PNG.

    Raises:
        ModuleNotFoundError: if fontTools is not installed.
        ValueError: if the font is damaged, or of another kind.
    """
    try:
        from fontTools.ttLib import TTFont
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the emoji are read out of their font by fontTools: pip install fonttools") from error
    try:
        return [*different_pictures(TTFont(font))]
    except OSError:
        raise
    except Exception as error:  # damaged bytes can raise any error in fontTools
        raise ValueError(
            f"{font} is no bitmap font (CBDT), or it is damaged: put {FONT} of Debian's {PACKAGE} there, or remove it"
        ) from error


def different_pictures(tables: Any) -> Iterator[tuple[str, bytes]]:
    """Go through the pictures of a font, each of them once: the name of its group and the PNG."""
    sequences = code_points(tables)
    seen = set()
    (strike,) = tables["CBDT"].strikeData
    for glyph, bitmap in strike.items():
        if bitmap.imageData not in seen:
            seen.add(bitmap.imageData)
            yield group_name(sequences.get(glyph), glyph), bitmap.imageData


def code_points(tables: Any) -> dict[str, tuple[int, ...]]:
    """Return the characters of each glyph of a font: one character, or several that a ligature joins."""
    found = {glyph: (point,) for point, glyph in sorted(tables.getBestCmap().items(), reverse=True)}
    ligatures = {
        ligature.LigGlyph: (first, *ligature.Component)
        for lookup in tables["GSUB"].table.LookupList.Lookup
        for subtable in lookup.SubTable
        for first, ligatures in getattr(getattr(subtable, "ExtSubTable", subtable), "ligatures", {}).items()
        for ligature in ligatures
    }

    def points(glyph: str, depth: int = 0) -> tuple[int, ...]:
        if glyph in found:
            return found[glyph]
        parts = ligatures.get(glyph, ()) if depth < 8 else ()
        return tuple(point for part in parts for point in points(part, depth + 1))

    return {glyph: points(glyph) for glyph in (*found, *ligatures)}


def group_name(sequence: tuple[int, ...] | None, glyph: str) -> str:
    """Return the name of the group of a picture, which is the same for all its variants."""
    base = [PERSON if point in PERSONS else point for point in sequence or () if point not in VARIANTS]
    if PERSON in base:  # families and couples in any order
        base = sorted({*base})
    return "-".join(f"{point:x}" for point in base) or "".join(filter(str.isalnum, glyph))
