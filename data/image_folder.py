"""Any folder of images: listed by name, checked once, decoded when asked for, brought to one shape."""

import logging
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from data.decode import check_shape, decode
from data.image_files import ImageFiles, damaged_images
from data.image_set import ImageSet, Subset, TensorImages
from data.order import split_off

logger = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
NAMED = 20
"""Files left out that are named one by one."""


class ImageFolder:
    """The images of a folder and of its subfolders, scaled to cover image_shape and cropped at their centre.

    Two subfolders are the splits where both are there; else `seed` picks `test_fraction` of all images for the test.
    Images in class subfolders are labelled by the place of the class among the sorted names, images outside of any
    have the label -1. Hidden files and folders are passed over.

    Args:
        root: the folder.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.
        index_dir: where to remember which files were checked.
        train: name of the subfolder of training images.
        test: name of the subfolder of test images.
        seed: picks the test images where there are no splits.
        test_fraction: share of the test images where there are no splits, between 0 and 1.
        crop: side of the central square that is cut out before scaling, in pixels; None takes the whole image.
        enlarge: whether to take images that have to be scaled up.
        group: what the names of files that are variants of one image have in common, a regular expression for the
            beginning of the name, such as "[^_]+"; they stay on one side of every split. None: no file is a variant.
        in_memory: whether to decode all images once and keep them, C * H * W bytes each, in every process.
        on_damaged: what to do about files that cannot be decoded or are too small: "skip" names, counts and leaves
            them out, "raise" ends the run.

    Raises:
        ValueError: if the shape, the crop, the fraction or on_damaged is impossible.
    """

    def __init__(
        self,
        root: str,
        image_shape: Sequence[int],
        index_dir: str,
        train: str = "train",
        test: str = "test",
        seed: int = 0,
        test_fraction: float = 0.1,
        crop: int | None = None,
        enlarge: bool = False,
        group: str | None = None,
        in_memory: bool = False,
        on_damaged: str = "skip",
    ) -> None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
        if on_damaged not in ("skip", "raise"):
            raise ValueError(f"on_damaged must be skip or raise, got {on_damaged!r}")
        self.root = Path(root).expanduser()
        self.image_shape = check_shape(image_shape, crop)
        self.index_dir = Path(index_dir).expanduser()
        self.splits = train, test
        self.seed = seed
        self.test_fraction = test_fraction
        self.crop = crop
        self.in_memory = in_memory
        self.group = None if group is None else re.compile(group)
        self.read = partial(decode, image_shape=self.image_shape, crop=crop, enlarge=enlarge)
        self.on_damaged = on_damaged

    def prepare(self) -> None:
        """Check every image, and say which are left out.

        Raises:
            OSError: as `load`.
            ValueError: as `load`.
        """
        found = self._find()
        damaged = [reason for _, reasons in found.values() for reason in reasons.values()]
        for reason in damaged[:NAMED]:
            logger.warning("left out: %s", reason)
        if len(damaged) > NAMED:
            logger.warning("left out: %d more", len(damaged) - NAMED)
        train, test = self._split(found)
        logger.info(
            "%s: %d images, %d left out; the others are %sscaled to cover %dx%d (H x W) and cropped at the centre; "
            "%d to train and %d to test, %s %s and %s",
            self.root,
            sum(len(paths) for paths, _ in found.values()),
            len(damaged),
            f"cut to their central {self.crop}x{self.crop}, " if self.crop else "",
            *self.image_shape[1:],
            len(train),
            len(test),
            "by the folders" if len(found) == 2 else "by the seed, as there are not both folders",
            *self.splits,
        )

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            OSError: if a folder is missing, cannot be read or holds no image.
            ValueError: if there is a single image to split, all are damaged, or one is and these are not skipped.
        """
        return self._split(self._find())

    def _find(self) -> dict[Path, tuple[list[Path], dict[Path, str]]]:
        """Return the images of each folder, and why some of them are damaged."""
        found = {}
        for folder in self._folders():
            paths = list_images(folder)
            found[folder] = paths, self._damaged(folder, paths)
        return found

    def _split(self, found: dict[Path, tuple[list[Path], dict[Path, str]]]) -> tuple[ImageSet, ImageSet]:
        usable = {folder: self._usable(folder, *images) for folder, images in found.items()}
        classes = sorted({path.parts[0] for paths in usable.values() for path in paths if len(path.parts) > 1})
        sets = [self._files(folder, paths, classes) for folder, paths in usable.items()]
        if len(sets) == 2:
            return sets[0], sets[1]
        (images,) = sets
        if len(images) < 2:
            raise ValueError(
                f"{self.root} holds one image, where a training and a test split need at least two: add more"
            )
        num_test = min(max(round(self.test_fraction * len(images)), 1), len(images) - 1)
        train, test = split_off(len(images), num_test, "test", self.seed, groups=images.groups)
        return Subset(images, train), Subset(images, test)

    def _folders(self) -> list[Path]:
        """Return the folders of both splits, or the one of all images."""
        splits = [self.root / name for name in self.splits]
        return splits if all(folder.is_dir() for folder in splits) else [self.root]

    def _damaged(self, folder: Path, paths: list[Path]) -> dict[Path, str]:
        settings = f"{self.image_shape} {self.read.keywords}"
        damaged = damaged_images(folder, paths, self.read, settings, self.index_dir)
        if damaged and self.on_damaged == "raise":
            raise ValueError(
                f"{next(iter(damaged.values()))} (one of {len(damaged)} such files): repair or remove them, or leave "
                "them out by data.source.on_damaged=skip"
            )
        return damaged

    def _usable(self, folder: Path, paths: list[Path], damaged: dict[Path, str]) -> list[Path]:
        usable = [path for path in paths if path not in damaged]
        if not usable:
            raise ValueError(
                f"none of the {len(damaged)} images in {folder} is usable, such as: {next(iter(damaged.values()))}"
            )
        return usable

    def _files(self, folder: Path, paths: list[Path], classes: list[str]) -> ImageSet:
        place = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([place[path.parts[0]] if len(path.parts) > 1 else -1 for path in paths])
        files = ImageFiles(folder, paths, labels, self.image_shape, self.read, self._groups(paths))
        return TensorImages(files[list(range(len(files)))].images, labels, files.groups) if self.in_memory else files

    def _groups(self, paths: list[Path]) -> Tensor | None:
        if self.group is None:
            return None
        found = [self.group.match(path.name) for path in paths]
        names = [match.group() if match else str(path) for match, path in zip(found, paths, strict=True)]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return torch.tensor([numbers[name] for name in names])


def list_images(root: Path) -> list[Path]:
    """Return the sorted paths, relative to root, of the images below it.

    Raises:
        FileNotFoundError: if there is no such folder, or no image below it.
        OSError: if a folder cannot be read.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: give the folder that holds your images")
    found = []
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(folder).relative_to(root)
        found += [here / name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    if not found:
        raise FileNotFoundError(
            f"the folder {root} and its subfolders hold no image, that is no {' '.join(EXTENSIONS)} file"
        )
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error
