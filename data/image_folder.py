"""Any folder of images: listed by name, decoded when asked for, covered and cropped to one shape."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from data.image_set import Batch, ImageSet, Subset
from data.order import shuffled

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB"}


class ImageFolder:
    """The images of a folder and of its subfolders, scaled to cover image_shape and cropped at their centre.

    The subfolders train/ and test/ are the splits where both are there; else `seed` picks `test_fraction` of
    all images for the test. Images in class subfolders are labelled by the place of the class among the
    sorted names, images outside of any have the label -1. Hidden files and folders are passed over.

    Args:
        root: the folder.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.
        seed: picks the test images where there are no splits.
        test_fraction: share of the test images where there are no splits, between 0 and 1.

    Raises:
        ValueError: if the shape or the fraction is impossible.
    """

    def __init__(self, root: str, image_shape: Sequence[int], seed: int = 0, test_fraction: float = 0.1) -> None:
        if len(image_shape) != 3 or image_shape[0] not in MODES or min(image_shape) < 1:
            raise ValueError(
                f"image_shape must be (C, H, W) with C = 1 (grey) or 3 (colour), got {tuple(image_shape)}."
            )
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction}.")
        self.root = Path(root).expanduser()
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.seed = seed
        self.test_fraction = test_fraction

    def prepare(self) -> None:
        """Check that there are images.

        Raises:
            FileNotFoundError: as `load`.
            ValueError: as `load`.
        """
        self.load()

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Raises:
            FileNotFoundError: if a folder is missing or holds no image.
            ValueError: if there is a single image to split.
        """
        train, test = self.root / "train", self.root / "test"
        if train.is_dir() and test.is_dir():
            found = [list_images(train), list_images(test)]
            classes = class_names(found[0] + found[1])
            return (
                ImageFiles(train, found[0], classes, self.image_shape),
                ImageFiles(test, found[1], classes, self.image_shape),
            )
        paths = list_images(self.root)
        if len(paths) < 2:
            raise ValueError(f"{self.root} holds one image: a training and a test split need at least two.")
        images = ImageFiles(self.root, paths, class_names(paths), self.image_shape)
        num_test = min(max(round(self.test_fraction * len(images)), 1), len(images) - 1)
        rows = shuffled(len(images), "test", self.seed)
        return Subset(images, rows[num_test:].sort().values), Subset(images, rows[:num_test].sort().values)


class ImageFiles(ImageSet):
    """Image files below a folder, decoded when they are asked for.

    Reading one that cannot be decoded raises ValueError, with the file's name.

    Args:
        root: the folder.
        paths: relative to root, as `list_images` gives them.
        classes: names of the top folders, of which a label is the place.
        image_shape: (C, H, W) that every image is brought to.
    """

    def __init__(self, root: Path, paths: list[Path], classes: list[str], image_shape: tuple[int, int, int]) -> None:
        place = {name: label for label, name in enumerate(classes)}
        self.root = root
        self.paths = paths
        self.labels = torch.tensor([place[path.parts[0]] if len(path.parts) > 1 else -1 for path in paths])
        self.shape = image_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.shape

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        images = [decode(self.root / self.paths[row], self.shape) for row in rows]
        return Batch(torch.stack(images), self.labels[index], index)


def list_images(root: Path) -> list[Path]:
    """Return the sorted paths, relative to root, of the images below it.

    Raises:
        FileNotFoundError: if there is no such folder, or no image below it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}: give the folder that holds your images.")
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        here = Path(folder).relative_to(root)
        found += [here / name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    if not found:
        raise FileNotFoundError(
            f"The folder {root} and its subfolders hold no image, that is no {' '.join(EXTENSIONS)} file."
        )
    return sorted(found)


def class_names(paths: list[Path]) -> list[str]:
    """Return the sorted names of the top folders."""
    return sorted({path.parts[0] for path in paths if len(path.parts) > 1})


def decode(path: Path, image_shape: tuple[int, int, int]) -> Tensor:
    """Return the first frame of an image file, upright, on white, scaled and cropped.

    Args:
        path: the file.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.

    Returns:
        uint8 `(C, H, W)`.

    Raises:
        ValueError: if it cannot be decoded; the message names the file.
    """
    channels, height, width = image_shape
    try:
        with Image.open(path) as file:
            image = flatten(ImageOps.exif_transpose(file), MODES[channels])
    except Exception as error:
        raise ValueError(f"{path} cannot be decoded as an image: {error}") from error
    fitted: Tensor = pil_to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
    return fitted


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """Return an image of any mode as 8-bit grey ("L") or colour ("RGB"), transparent parts on white.

    Raises:
        ValueError: if its levels are floating-point or do not fit in 16 bits.
    """
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its grey levels do not fit in 16 bits")
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point grey levels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
