"""From an image file of any kind to pixels of one shape."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

MODES = {1: "L", 3: "RGB"}

warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # such a file is refused, by name


def check_shape(image_shape: Sequence[int], crop: int | None = None) -> tuple[int, int, int]:
    """Return the (C, H, W) that images are to be brought to, after a central square of `crop` pixels is cut out.

    Raises:
        ValueError: if it is not three sizes, C is neither that of grey nor of colour, or the square is empty.
    """
    if len(image_shape) != 3 or image_shape[0] not in MODES or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (C, H, W) with C = 1 (grey) or 3 (colour), got {tuple(image_shape)}")
    if crop is not None and crop < 1:
        raise ValueError(f"crop must be at least 1 pixel, or null to take the whole image, got {crop}")
    return image_shape[0], image_shape[1], image_shape[2]


def decode(path: Path, image_shape: tuple[int, int, int], *, crop: int | None = None, enlarge: bool = False) -> Tensor:
    """Return the first frame of an image file, upright, on white, scaled to cover a shape and cropped at the centre.

    Args:
        path: the file.
        image_shape: (C, H, W); C is 1 for grey, 3 for colour.
        crop: side of the central square that is cut out before scaling, in pixels; None takes the whole image.
        enlarge: whether to scale up images that are too small.

    Returns:
        uint8 `(C, H, W)`.

    Raises:
        ValueError: if it cannot be decoded or is too small; the message names the file.
    """
    channels, height, width = image_shape
    if not path.exists() or path.stat().st_size == 0:
        raise ValueError(f"{path} is {'empty' if path.exists() else 'a link to nothing'}")
    try:
        with Image.open(path) as file:
            image = flatten(ImageOps.exif_transpose(file), MODES[channels])
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no image of a kind that Pillow reads") from error
    except Exception as error:  # decoders raise what they like
        raise ValueError(f"{path} cannot be decoded: {str(error).rstrip('.')}") from error
    if crop is not None:
        check_size(path, image, crop, crop)
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if not enlarge:
        check_size(path, image, width, height)
    fitted: Tensor = pil_to_tensor(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
    return fitted


def check_size(path: Path, image: Image.Image, width: int, height: int) -> None:
    """Raise ValueError, naming the file, unless an image has at least this size."""
    if image.width < width or image.height < height:
        raise ValueError(f"{path} is too small: {image.width}x{image.height} (W x H) where {width}x{height} are needed")


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
