"""Any folder of images. They are listed by name, checked once, decoded when needed, and scaled to one shape."""

import logging
import re
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from os.path import basename
from pathlib import Path

import torch
from torch import Tensor

from data.files.decode import MAX_PIXELS, check_shape, decode
from data.files.found import Found, class_of, count_endings, describe_classes, describe_files, describe_splits
from data.files.image_files import ImageFiles, Unfit, damaged_images
from data.files.names import printable, shortened
from data.files.splits import beside_splits, find_splits, missed_splits
from data.files.walk import Listing, check_apart, list_files
from data.image_set import ImageSet, Joined, Splits, Subset, TensorImages
from data.order import split_off

logger = logging.getLogger(__name__)

EXAMPLES = (".png", ".jpg", ".webp", ".tif", ".gif", ".bmp", ".pgm")
NAMED = 20
"""At most this many of the files that are left out are named one by one."""


class ImageFolder:
    """The images of a folder and of its subfolders, scaled to cover image_shape and cropped at the centre.

    Splits: subfolders with the usual names are the splits, in upper or lower case. The names are train or training;
    val, valid or validation; test or testing. Without a test folder, `seed` chooses `test_fraction` of the training
    images for the test.

    Classes: each subfolder of a split is a class, even if no image in it can be used. A label is the place of its class
    in the sorted list of the class names of all splits. Images outside of any class have the label -1.

    Files: links are followed, and each real folder counts once. Hidden files and folders are passed over, and so are
    those of systems and tools, and files that are no images.

    Args:
        root: the folder.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.
        index_dir: folder for the index of the files that were checked.
        train: name of the subfolder of training images; for all three splits, None means to look for the usual names.
        test: name of the subfolder of test images.
        val: name of the subfolder of validation images.
        seed: chooses the test images if they have no folder.
        test_fraction: fraction of the images that become test images if these have no folder, between 0 and 1.
        crop: side of the central square that is cut out before scaling, in pixels; None takes the whole image.
        enlarge: whether to use images that must be scaled up.
        max_pixels: images with more pixels are left out; None for no limit. (For some formats, such as TIFF and WebP,
            Pillow itself has a limit of 178,956,970.)
        group: a regular expression for the beginning of a file name, such as "[^_]+". Files with the same match are
            variants of one image, and stay on one side of every split that is made here. None: there are no variants.
        in_memory: whether to decode all images once and keep them in every process; an image takes C * H * W bytes.
        on_damaged: what to do with images that cannot be decoded, are too small or too large. "skip" leaves them out,
            names and counts them; "raise" ends the run.

    Raises:
        ValueError: if the shape, the crop, the fraction, max_pixels, group or on_damaged is impossible.
    """

    def __init__(
        self,
        root: str,
        image_shape: Sequence[int],
        index_dir: str,
        train: str | None = None,
        test: str | None = None,
        seed: int = 0,
        test_fraction: float = 0.1,
        crop: int | None = None,
        enlarge: bool = False,
        group: str | None = None,
        in_memory: bool = False,
        on_damaged: str = "skip",
        val: str | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
        if on_damaged not in ("skip", "raise"):
            raise ValueError(f"on_damaged must be skip or raise, got {on_damaged!r}")
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, or null for no limit, got {max_pixels}")
        try:
            self.group = None if group is None else re.compile(group)
        except re.error as error:
            raise ValueError(f"group must be a regular expression, such as [^_]+, got {group!r}: {error}") from error
        self.root = Path(str(root)).expanduser()  # a name that consists of digits may arrive as a number
        self.image_shape = check_shape(image_shape, crop)
        self.index_dir = Path(index_dir).expanduser()
        given = {"train": train, "val": val, "test": test}
        self.given_splits = {split: None if name is None else str(name) for split, name in given.items()}
        self.seed = seed
        self.test_fraction = test_fraction
        self.crop = crop
        self.in_memory = in_memory
        self.read = partial(decode, image_shape=self.image_shape, crop=crop, enlarge=enlarge, max_pixels=max_pixels)
        self.on_damaged = on_damaged
        self._prepared: dict[str, Found] | None = None

    def prepare(self) -> None:
        """Check every image. Log what is used, what is not used and why, and which classes there are.

        Raises:
            OSError: as in `load`.
            ValueError: as in `load`.
        """
        found = self._prepared = self._find()
        left_out = self._name_left_out(found)
        train, test, *val = self._sets(found)
        logger.info("%s: %s; %s", printable(self.root), describe_files(found), describe_classes([train, test, *val]))
        self._warn(found, train)
        logger.info(
            "%s: %d images, %d left out; the others are %sscaled to cover %dx%d (H x W) and cropped at the centre; "
            "%d to train%s and %d to test, %s",
            printable(self.root),
            sum(len(part.usable) + len(part.left_out) for part in found.values()),
            len(left_out),
            f"cut to their central {self.crop}x{self.crop}, " if self.crop else "",
            *self.image_shape[1:],
            len(train),
            f", {len(val[0])} to validate" if val else "",
            len(test),
            describe_splits(found),
        )

    def load(self) -> Splits:
        """Return the training images, the test images and, if they have a folder, the validation images.

        After `prepare` in the same process, the folder is not searched again.

        Raises:
            OSError: if a folder is missing, cannot be read or holds no image.
            ValueError: if there is only one image to split, or if all images are in one group. If all images are
                damaged, or if one is damaged and damaged images are not skipped. If splits share a folder or file, or
                if it is not clear which folders are the splits.
        """
        found, self._prepared = self._prepared or self._find(), None
        return self._sets(found)

    def load_whole(self) -> ImageSet:
        """Return all images as one set, in the order of their names, whatever split they belong to.

        Raises:
            OSError: as in `load`.
            ValueError: as in `load`, but one image is enough.
        """
        found = self._find()
        self._name_left_out(found)
        return Joined([*self._sets_of_folders(found).values()])

    def _name_left_out(self, found: dict[str, Found]) -> list[str]:
        """Warn about the images that are left out, and return the reasons."""
        left_out = [reason for part in found.values() for reason in part.left_out]
        for reason in left_out[:NAMED]:
            logger.warning("left out: %s", reason)
        if len(left_out) > NAMED:
            logger.warning("left out: %d more", len(left_out) - NAMED)
        return left_out

    def _find(self) -> dict[str, Found]:
        """Return the contents of the folder of each split. Without splits, all images are for training."""
        folders = find_splits(self.root, self.given_splits) or {"train": self.root}
        listings = {split: list_files(folder) for split, folder in folders.items()}
        for one, other in combinations(listings.values(), 2):
            check_apart(one, other)
        return {split: Found(listing, self._unfit(listing)) for split, listing in listings.items()}

    def _unfit(self, listing: Listing) -> dict[str, Unfit]:
        settings = f"{self.image_shape} {self.read.keywords}"
        unfit = damaged_images(listing.root, listing.files, self.read, settings, self.index_dir)
        left_out = [one.reason for one in unfit.values() if one.is_image]
        if left_out and self.on_damaged == "raise":
            raise ValueError(
                f"{left_out[0]} (one of {len(left_out)} such files): repair or remove them, or leave them out by "
                "data.source.on_damaged=skip"
            )
        folder = printable(listing.root)
        if len(unfit) == len(listing.files) and left_out:
            raise ValueError(f"none of the {len(left_out)} images in {folder} is usable, such as: {left_out[0]}")
        if len(unfit) == len(listing.files):
            kinds = f"; passed over: {count_endings(unfit)}" if unfit else ""
            raise FileNotFoundError(
                f"the folder {folder} and its subfolders hold no image, that is no {' '.join(EXAMPLES)} file or the "
                f"like{kinds}"
            )
        return unfit

    def _sets_of_folders(self, found: dict[str, Found]) -> dict[str, ImageSet]:
        """Return the images of each folder."""
        names = sorted({class_of(folder) for part in found.values() for folder in part.listing.folders})
        return {split: self._files(part.listing.root, part.usable, names) for split, part in found.items()}

    def _sets(self, found: dict[str, Found]) -> Splits:
        """Return the training images, the test images and, if they have a folder, the validation images."""
        sets = self._sets_of_folders(found)
        if self.group and not any(self.group.match(basename(path)) for part in found.values() for path in part.usable):
            raise ValueError(f"no file has a name that data.source.group={self.group.pattern} matches: correct it")
        train = sets["train"]
        train, test = (train, sets["test"]) if "test" in sets else self._split(train)
        return (train, test, sets["val"]) if "val" in sets else (train, test)

    def _split(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        if len(images) < 2:
            raise ValueError(
                f"{printable(self.root)} holds one image, where a training and a test split need at least two: add more"
            )
        num_test = min(max(round(self.test_fraction * len(images)), 1), len(images) - 1)
        train, test = split_off(len(images), num_test, "test", self.seed, groups=images.groups)
        if not len(train):
            assert self.group is not None and images.groups is not None
            raise ValueError(
                f"data.source.group={self.group.pattern} puts the {len(images)} images of {printable(self.root)} into "
                f"too few groups ({len(set(images.groups.tolist()))}): all would go to the test and none to training; "
                "give an expression that matches more of each name, or null"
            )
        return Subset(images, train), Subset(images, test)

    def _files(self, folder: Path, paths: list[str], names: list[str]) -> ImageSet:
        place = {name: label for label, name in enumerate(names)}
        folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
        label_of = {name: place[class_of(name)] if name else -1 for name in {*folders}}
        labels = torch.tensor([label_of[name] for name in folders], dtype=torch.long)
        class_names = tuple(map(printable, names)) or None
        files = ImageFiles(folder, paths, labels, self.image_shape, self.read, self._groups(paths), class_names)
        if not self.in_memory:
            return files
        images = files[list(range(len(files)))].images
        return TensorImages(images, labels, files.groups, class_names, [*map(files.name, range(len(files)))])

    def _groups(self, paths: list[str]) -> Tensor | None:
        if self.group is None:
            return None
        found = [self.group.match(basename(path)) for path in paths]
        names = [match.group() if match else path for match, path in zip(found, paths, strict=True)]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return torch.tensor([numbers[name] for name in names])

    def _warn(self, found: dict[str, Found], train: ImageSet) -> None:
        """Warn about things that the user probably did not intend."""
        root = printable(self.root)
        if beside := beside_splits(self.root, [part.listing.root for part in found.values()]):
            logger.warning("%s: not used, as beside the splits: %s", root, shortened(map(printable, beside)))
        if missed := missed_splits(path for part in found.values() for path in part.usable):
            logger.warning(
                "%s: %s look like splits, but are not taken as such: if they are, give data.source.train=NAME and "
                "data.source.test=NAME, or the folder around them as data.source.root",
                root,
                shortened(map(printable, missed)),
            )
        counts = zip(train.class_names or (), train.images_of_classes(), strict=True)
        if empty := [name for name, count in counts if not count]:
            logger.warning("%s: no image to train on of these classes: %s", root, shortened(empty))
