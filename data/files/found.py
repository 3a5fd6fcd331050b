"""Describes in words what was found in a folder of images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

import torch

from data.files.image_files import Unfit
from data.files.names import printable, shortened
from data.files.walk import Listing
from data.image_set import ImageSet


@dataclass
class Found:
    """The files of one split, and which of them cannot be used."""

    listing: Listing
    unfit: dict[str, Unfit]

    @cached_property
    def usable(self) -> list[str]:
        """Paths of the images that can be read, relative to the folder."""
        return [path for path in self.listing.files if path not in self.unfit]

    @property
    def left_out(self) -> list[str]:
        """The reason for each image that cannot be used."""
        return [unfit.reason for unfit in self.unfit.values() if unfit.is_image]

    @property
    def passed_over(self) -> list[str]:
        """Paths of the files that are no images, relative to the folder."""
        return [path for path, unfit in self.unfit.items() if not unfit.is_image]


def class_of(folder: str) -> str:
    """Return the name of the class of a folder. It does not depend on how the system writes accents."""
    return normalize("NFC", folder)


def count_endings(paths: Iterable[str]) -> str:
    """Return how many files have each ending."""
    endings = Counter(printable(Path(path).suffix.lower()) or "without an ending" for path in paths)
    return shortened(f"{count} {ending}" for ending, count in endings.most_common())


def describe_files(found: dict[str, Found]) -> str:
    """Return how many files were found, used, left out and passed over, and why."""
    passed_over = [path for part in found.values() for path in part.passed_over]
    unseen = sum((part.listing.passed_over for part in found.values()), Counter[str]())
    words = (
        f"{sum(len(part.listing.files) for part in found.values())} files found, "
        f"{sum(len(part.usable) for part in found.values())} used, "
        f"{sum(len(part.left_out) for part in found.values())} left out as damaged or of a wrong size, "
        f"{len(passed_over)} passed over as no images"
    )
    words += f" ({count_endings(passed_over)})" if passed_over else ""
    counts = ", ".join(f"{reason} ({count})" for reason, count in unseen.items())
    return f"{words}; not looked at: {counts}" if unseen else words


def describe_classes(sets: Sequence[ImageSet]) -> str:
    """Return the classes, each with its number of images in all splits."""
    names = sets[0].class_names
    if names is None:
        return "no classes, as there are no subfolders"
    counts = torch.stack([images.images_of_classes() for images in sets]).sum(0)
    classes = shortened(f"{name} ({count})" for name, count in zip(names, counts, strict=True))
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'}: {classes}"


def describe_splits(found: dict[str, Found]) -> str:
    """Return how the images are split: by folders or by the seed."""
    *names, last = (printable(part.listing.root.name) for part in found.values())
    folders = f"by the folders {', '.join(names)} and {last}"
    if "test" in found:
        return folders
    return f"{folders}, those to test by the seed" if "val" in found else "by the seed, as there is no folder test"
