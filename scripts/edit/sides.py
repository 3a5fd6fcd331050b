"""The two sides of an attribute: images that have it and images that lack it."""

from collections.abc import Sequence

import torch

from data import ImageData, ImageSet, Subset, TensorImages
from data.order import shuffled
from flows.arguments import UnknownChoiceError
from scripts.files.read_images import read_images

Told = str | int | Sequence[str | int]
"""Files or folders, or classes by name or number: one or several."""


def sides_of_files(having: Told, lacking: Told | None, image_shape: Sequence[int]) -> list[ImageSet]:
    """Return the images of files and folders, at the size (C, H, W).

    Raises:
        ValueError: if one side has none, or as in `read_images`.
    """
    if lacking is None:
        raise ValueError("lacking is null: give images without the attribute, or a data set with classes by data=NAME")
    return [TensorImages(read_images([*map(str, listed(told))], image_shape)[0]) for told in (having, lacking)]


def sides_of_classes(data: ImageData, having: Told, lacking: Told | None, num_images: int, seed: int) -> list[ImageSet]:
    """Return training images of some classes, and of some other classes.

    Args:
        data: the data set.
        having: classes with the attribute.
        lacking: classes without it; None: all other classes.
        num_images: of each side, at most.
        seed: chooses these images.

    Raises:
        ValueError: if there is no such class, if a class is on both sides, if a side has no image, or if the data set
            has no labels.
    """
    data.prepare_data()
    data.setup()
    images = data.sets["train"]
    present = images.labels.unique().tolist()
    if present == [-1]:
        raise ValueError("the images of this data set have no labels: give image files, and leave data out")
    chosen = labels_of("having", having, images)
    others = [label for label in present if label >= 0 and label not in chosen]
    without = others if lacking is None else labels_of("lacking", lacking, images)
    if both := set(chosen) & set(without):
        raise ValueError(f"class {min(both)} is in having and in lacking: leave it out of one of them")
    sides: list[ImageSet] = []
    for option, labels in (("having", chosen), ("lacking", without)):
        rows = torch.isin(images.labels, torch.tensor(labels)).nonzero().flatten()
        if not len(rows):
            raise ValueError(f"there is no training image for {option}: give other classes")
        sides.append(Subset(images, rows[shuffled(len(rows), "attribute", seed)[:num_images]]))
    return sides


def labels_of(option: str, told: Told, images: ImageSet) -> list[int]:
    """Return the labels of classes that are told by name or number.

    Raises:
        UnknownChoiceError: if there is no such class.
    """
    numbers = {str(label): label for label in range(int(images.labels.max()) + 1)}
    names = {name: label for label, name in enumerate(images.class_names or ())}
    known = numbers | names
    for one in map(str, listed(told)):
        if one not in known:
            raise UnknownChoiceError(option, names or numbers, one)
    return [known[str(one)] for one in listed(told)]


def listed(told: Told) -> list[str | int]:
    """Return one or several as a list."""
    return [told] if isinstance(told, str | int) else [*told]
