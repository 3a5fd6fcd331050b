"""From an image file of any kind to pixels of one shape."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.ImageFile import ImageFile
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from data.files.formats import NotAnImageError, is_fault_of_the_machine, open_image
from data.files.metadata import without_metadata
from data.files.names import printable

MODES = {1: "L", 3: "RGB"}
MAX_PIXELS = 89_478_485
"""The most pixels of one image, unless more are allowed. They take a quarter of a GiB in colour.

Pillow warns of images that have more.
"""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""For each Exif orientation, the turn that brings the image upright."""
Taken = TypeVar("Taken")
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""A filter for Pillow's warnings. They are about metadata, or about sizes, which this module checks itself."""


def check_shape(image_shape: Sequence[int], crop: int | None = None) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the decoded images. A central square of `crop` pixels is cut out of them first.

    Raises:
        ValueError: if there are not three sizes, if C is neither 1 (grey) nor 3 (colour), or if the square is empty.
    """
    if len(image_shape) != 3 or image_shape[0] not in MODES or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (C, H, W) with C = 1 (grey) or 3 (colour), got {tuple(image_shape)}")
    if crop is not None and crop < 1:
        raise ValueError(f"crop must be at least 1 pixel, or null to take the whole image, got {crop}")
    return image_shape[0], image_shape[1], image_shape[2]


def decode(
    path: Path,
    image_shape: tuple[int, int, int],
    *,
    crop: int | None = None,
    enlarge: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> Tensor:
    """Return the first frame of an image file. It is upright, on white, scaled to cover a shape, and centre-cropped.

    Args:
        path: the file.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.
        crop: side of the central square that is cut out before scaling, in pixels; None takes the whole image.
        enlarge: whether to scale up images that are too small.
        max_pixels: the most pixels that an image may have; None for no limit.

    Returns:
        uint8 `(C, H, W)`.

    Raises:
        NotAnImageError: (a ValueError) if no decoder opens the file; the message names the file.
        ValueError: if the image cannot be decoded, or is too small or too large; the message names the file.
        OSError: if the disk or the network fails.
    """
    channels, height, width = image_shape
    image = read_image(path, lambda image: flatten(upright(image), MODES[channels]), max_pixels)
    if crop is not None:
        check_size(path, image, crop, crop)
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if not enlarge:
        check_size(path, image, width, height)
    fitted: Tensor = pil_to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
    return fitted


class Original(NamedTuple):
    """What an image file holds: its size in pixels, upright, and Pillow's name of its colours."""

    width: int
    height: int
    mode: str


def original(path: Path) -> Original:
    """Return what an image file holds that `decode` reads.

    Raises:
        NotAnImageError: (a ValueError) if no decoder opens the file; the message names the file.
        ValueError: if the image cannot be decoded; the message names the file.
        OSError: if the disk or the network fails.
    """

    def look(image: ImageFile) -> Original:
        mode = image.mode
        return Original(*upright(image).size, mode)

    return read_image(path, look, MAX_PIXELS)


def read_image(path: Path, take: Callable[[ImageFile], Taken], max_pixels: int | None) -> Taken:
    """Return what is taken from an image file, even if its metadata are damaged.

    Raises:
        NotAnImageError: (a ValueError) if no decoder opens the file; the message names the file.
        ValueError: if the image cannot be decoded; the message names the file.
        OSError: if the disk or the network fails.
    """
    name = printable(path)
    if not os.path.isfile(path):
        what = "no file" if os.path.exists(path) else "a link to nothing" if path.is_symlink() else "gone"
        raise NotAnImageError(f"{name} is {what}")
    if path.stat().st_size == 0:
        raise NotAnImageError(f"{name} is empty")
    try:
        return _read(path, take, max_pixels)
    except PermissionError as error:
        raise NotAnImageError(f"{name} may not be read: change its permissions") from error
    except NotAnImageError as error:
        raise NotAnImageError(f"{name} {printable(str(error)).rstrip('.')}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name} has more pixels than Pillow reads of a file of this kind, whatever max_pixels is: save it as PNG "
            f"({error})"
        ) from error
    except Exception as error:  # decoders raise errors of any kind
        if is_fault_of_the_machine(error):
            raise
        reason = printable(str(error) or type(error).__name__).rstrip(".")
        raise ValueError(f"{name} cannot be decoded: {reason}") from error


def _read(path: Path, take: Callable[[ImageFile], Taken], max_pixels: int | None) -> Taken:
    """Do the same, with errors of any kind, which do not name the file."""
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")

    def read(file: BinaryIO) -> Taken:
        image = open_image(file, path)
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise ValueError(
                f"its {image.width}x{image.height} pixels are more than {max_pixels}, as those of a decompression bomb "
                "would be; if it is sound, make it smaller, or, for data=image_folder, set "
                f"data.source.max_pixels={image.width * image.height}, or null"
            )
        return take(image)

    with path.open("rb") as file:
        try:
            return read(file)
        except Exception as error:
            if is_fault_of_the_machine(error):
                raise
            file.seek(0)
            bare = without_metadata(file.read())
            if bare is None:
                raise
            try:
                return read(BytesIO(bare))
            except Exception:
                raise error from None


def upright(image: ImageFile) -> Image.Image:
    """Return an image, turned as its metadata say. If the metadata cannot be read, do not turn it."""
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata of any kind
        turn = None
    return image if turn is None else image.transpose(turn)


def check_size(path: Path, image: Image.Image, width: int, height: int) -> None:
    """Raise ValueError, naming the file, unless an image has at least this size."""
    if image.width < width or image.height < height:
        raise ValueError(
            f"{printable(path)} is too small: {image.width}x{image.height} (W x H) where {width}x{height} are needed"
        )


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """Return an image of any mode as 8-bit grey ("L") or colour ("RGB"). Transparent parts become white.

    Raises:
        ValueError: if the grey levels are floating-point or do not fit in 16 bits.
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
