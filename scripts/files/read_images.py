"""Image files that a command is given."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from data.files.decode import check_shape, decode, original
from data.files.walk import images_in


def read_images(told: str | Sequence[str], image_shape: Sequence[int]) -> tuple[Tensor, list[str]]:
    """Read image files at one size: files, or all images of folders, sorted by name.

    Images of another size are scaled to cover this size and cropped at the centre, which is said.

    Args:
        told: the files and folders.
        image_shape: (C, H, W).

    Returns:
        uint8 `(B, C, H, W)`, and the files.

    Raises:
        ValueError: if there is no image, or if a file is none; the message names it.
    """
    paths = [path for one in ([told] if isinstance(told, str) else told) for path in files_of(Path(one).expanduser())]
    if not paths:
        raise ValueError("there is no image: give at least one file, or a folder of images")
    shape = check_shape(image_shape)
    wanted = f"{shape[2]}x{shape[1]}"
    images = []
    for path in paths:
        images.append(decode(path, shape, enlarge=True))
        found = original(path)
        size = f"{found.width}x{found.height}"
        if size != wanted:
            print(f"{path}: scaled from {size} to cover {wanted}, and cropped at the centre", file=sys.stderr)
    return torch.stack(images), [*map(str, paths)]


def files_of(path: Path) -> list[Path]:
    """Return a file, or the images of a folder.

    Raises:
        FileNotFoundError: if there is no such file or no image in the folder.
    """
    if path.is_dir():
        found = images_in(path)
        if not found:
            raise FileNotFoundError(f"{path} is a folder without images: give image files, or a folder of them")
        return found
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: give image files, or a folder of them")
    return [path]
