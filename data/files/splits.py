"""Finds the subfolders of a folder that hold its training, validation and test images."""

import os
from collections.abc import Iterable
from pathlib import Path

from data.files.formats import is_named_like_an_image
from data.files.names import printable
from data.files.walk import check_folder, is_hidden

USUAL_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""The usual names of each split, in upper or lower case."""


def find_splits(root: Path, given: dict[str, str | None]) -> dict[str, Path]:
    """Return the folder of each split. The result is empty if all images are in one place, without splits.

    If the folder of a split is not given, it is the subfolder that has a usual name. A subfolder `train` without other
    splits may be a class (of trains). So it is the training split only if it is given, or if no folder is beside it.

    Args:
        root: the folder.
        given: the subfolders of `train`, `val` and `test`; None to look for a usual name.

    Raises:
        FileNotFoundError: if there is no such folder, or if a given subfolder is not there.
        ValueError: if there are several folders for one split, or if there are splits but no folder for training.
        OSError: if the folder cannot be read.
    """
    check_folder(root)
    folders = sorted(name for name in os.listdir(root) if not is_hidden(name) and (root / name).is_dir())
    splits = {split: name for split, name in given.items() if name is not None}
    for split, name in splits.items():
        if not (root / name).is_dir():
            has = ", ".join(map(printable, folders)) or "none"
            raise FileNotFoundError(
                f"data.source.{split} is {name}, but {printable(root)} has no such folder: give one that it has ({has})"
            )
    if len({*splits.values()}) < len(splits):
        raise ValueError(f"data.source gives one folder for several splits ({splits}): give each its own, or null")
    for split, usual in USUAL_NAMES.items():
        names = [name for name in folders if name.lower() in usual and name not in splits.values()]
        if split not in splits and len(names) > 1:
            raise ValueError(
                f"{printable(root)} has {len(names)} folders that may be {split} ({', '.join(names)}): choose by "
                f"data.source.{split}=NAME"
            )
        if split not in splits and names:
            splits[split] = names[0]
    if splits and "train" not in splits:
        raise ValueError(
            f"{printable(root)} has {' and '.join(map(printable, splits.values()))}, but no training images beside it: "
            "move them into a subfolder train, or give theirs by data.source.train=NAME"
        )
    if {*splits} == {"train"} and given["train"] is None and len(folders) > 1:
        return {}
    return {split: root / splits[split] for split in USUAL_NAMES if split in splits}


def beside_splits(root: Path, splits: Iterable[Path]) -> list[str]:
    """Return the names of the folders and images in the root that are not part of a split."""
    beside = [path for path in sorted(root.iterdir()) if not is_hidden(path.name)]
    return [
        path.name
        for path in beside
        if (path.is_dir() or is_named_like_an_image(path))
        and not any(split.is_relative_to(path) or path.is_relative_to(split) for split in splits)
    ]


def missed_splits(paths: Iterable[str]) -> list[str]:
    """Return the names of folders that look like splits but are not used as splits, down to the second level."""
    names = {name for path in paths for name in path.split("/")[:-1][:2]}
    train = sorted(name for name in names if name.lower().startswith("train"))
    others = sorted(name for name in names if name.lower().startswith(("val", "test")))
    return [*train, *others] if train and others else []
