"""Images as one picture."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flows.image_flow import ImageFlow
from flows.sampler import Sampler

PNG_CHANNELS = 1, 3
"""Grey or colour; a second or a fourth channel would be read as transparency."""

VISIBLE_SIDE = 48
"""Images smaller than this many pixels are enlarged in grids, by a whole factor."""

FONT_SIZES = range(14, 5, -1)
"""Of the names beside a grid: the first one at which they fit."""


def image_grid(images: Tensor, num_columns: int) -> Tensor:
    """Lay uint8 images `(B, C, H, W)` out in rows of `num_columns`: one RGB picture `(3, H', W')`.

    Images that do not have 1 or 3 channels show only their first channel.
    """
    if images.shape[1] not in PNG_CHANNELS:
        images = images[:, :1]
    zoom = -(-VISIBLE_SIDE // max(images.shape[2:]))
    gap = 2 * zoom
    enlarged = images.cpu().repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    tiles = F.pad(enlarged, (gap, 0, gap, 0), value=255)
    columns = min(num_columns, len(tiles))
    rows = -(-len(tiles) // columns)
    tiles = torch.cat([tiles, tiles.new_full((rows * columns - len(tiles), *tiles.shape[1:]), 255)])
    picture = torch.cat([torch.cat([*row], 2) for row in torch.split(tiles, columns)], 1)
    return F.pad(picture, (0, gap, 0, gap), value=255).expand(3, -1, -1)


def with_names(grid: Tensor, columns: Sequence[str], rows: Sequence[str]) -> Tensor:
    """Return a grid `(3, H, W)` with names above its columns and on the left of its rows.

    Args:
        grid: as `image_grid` returns it.
        columns: a name per column, or none.
        rows: a name per row, or none.
    """
    _, height, width = grid.shape
    cell = width // max(1, len(columns))
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    fonts = [ImageFont.load_default(size) for size in FONT_SIZES]
    font = next((font for font in fonts if all(draw.textlength(name, font) < cell for name in columns)), fonts[-1])
    line = 2 * FONT_SIZES[0]
    top = line if columns else 0
    left = round(max(draw.textlength(name, font) for name in rows)) + line if rows else 0
    picture = Image.new("RGB", (left + width, top + height), "white")
    picture.paste(Image.fromarray(grid.cpu().permute(1, 2, 0).numpy()), (left, top))
    draw = ImageDraw.Draw(picture)
    for k, name in enumerate(columns):
        draw.text((left + (k + 0.5) * width / len(columns), top / 2), name, "black", font, "mm")
    for k, name in enumerate(rows):
        draw.text((left / 2, top + (k + 0.5) * height / len(rows)), name, "black", font, "mm")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def enlarged(images: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return uint8 images at the size (C, H, W) of other images, by nearest pixels, to show both in one grid.

    If the number of channels differs, the images show only their first channel.
    """
    channels, height, width = image_shape
    if images.shape[1] != channels:
        images = images[:, :1].expand(-1, channels, -1, -1)
    return F.interpolate(images.float(), (height, width), mode="nearest-exact").to(torch.uint8)


def temperature_rows(
    flow: ImageFlow | Sampler,
    seeds: Sequence[int],
    temperatures: Sequence[float],
    label: Tensor | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Sample the same seeds at each temperature: uint8 `(len(temperatures) * len(seeds), C, H, W)`."""
    return torch.cat([flow.sample(seeds, temperature, label, condition) for temperature in temperatures])


def check_channels(num_channels: int) -> None:
    """Raise ValueError unless a picture with this number of channels is grey or colour."""
    if num_channels not in PNG_CHANNELS:
        raise ValueError(
            f"a picture has 1 channel (grey) or 3 (colour), and these images have {num_channels}: take "
            "flows.load(PATH).sample(seeds), which gives them as a tensor"
        )


def save_png(picture: Tensor, path: str | Path) -> None:
    """Write a uint8 picture `(C, H, W)`, C 1 or 3, as a complete PNG file or none, and make its folder if needed.

    Raises:
        ValueError: if it is not such a picture.
    """
    if picture.dtype != torch.uint8 or picture.dim() != 3:
        raise ValueError(f"a picture is uint8 (C, H, W), got {picture.dtype} {tuple(picture.shape)}")
    check_channels(picture.shape[0])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture.cpu().permute(1, 2, 0).numpy()
    partial = path.with_name(f"png-{platform.node()}-{os.getpid()}.partial")
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(partial, "PNG")
    partial.replace(path)


def read_pngs(paths: Sequence[Path]) -> Tensor | None:
    """Return pictures that `save_png` wrote: uint8 `(B, C, H, W)`. Return None if one is missing or damaged."""
    pictures = []
    try:
        for path in paths:
            with Image.open(path) as image:
                pictures.append(torch.from_numpy(np.array(image)))
    except OSError:
        return None
    return torch.stack([pixels.reshape(*pixels.shape[:2], -1).permute(2, 0, 1) for pixels in pictures])
