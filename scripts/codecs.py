"""Measure the bits per dimension of lossless codecs on any data and split. A good flow needs fewer bits.

Examples:
    python scripts/codecs.py data=photos
    python scripts/codecs.py data=fashion_mnist split=val num_images=1000

Each codec codes the images in two ways. One by one, every image has its own header. Side by side in one picture, there
is only one header. JPEG-XL needs `pip install -e '.[codecs]'`.
"""

import io
import math
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import ImageData
from flows.arguments import choose, require_positive
from flows.training import call, check_config, command_line, to_json
from flows.training.command.track import track
from flows.training.grid import check_channels
from scripts.comparison.form import as_markdown
from scripts.files.new_file import check_new_file

OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP": {"format": "WebP", "lossless": True, "quality": 100, "method": 6},
    "JPEG-XL": {"format": "JXL", "lossless": True, "effort": 9},
}
"""The options for Pillow that give the smallest file of each codec."""

LARGEST_SIDE = {"WebP": 16_383}
"""Most pixels along a side of a picture, for codecs that have a limit."""


@command_line("../conf", "codecs")
def main(cfg: DictConfig) -> None:
    """Measure the codecs as the config says."""
    check_config(cfg)
    call(measure, cfg)


def measure(*, data: ImageData, split: str, num_images: int | None, out: str | None) -> None:
    """Print a table, and write its figures to `out` if given; see conf/codecs.yaml for the arguments."""
    if num_images is not None:
        require_positive(num_images=num_images)
    check_new_file("out", out, ".json")
    check_channels(data.image_shape[0])
    data.prepare_data()
    data.setup()
    chosen = choose("split", data.sets, split)
    images = chosen[list(range(min(len(chosen), num_images or len(chosen))))].images
    dims = math.prod(data.image_shape)
    found: dict[str, dict[str, float | None]] = {}
    if "JPEG-XL" not in codecs():
        print("JPEG-XL is left out: it needs pip install -e '.[codecs]'", file=sys.stderr)
    for name in codecs():
        told = track(images, f"{name}, {split} images")
        sizes = torch.tensor([8 * size(image, name) / dims for image in told], dtype=torch.double)
        found[name] = {
            "bits_per_dim": sizes.mean().item(),
            "standard_error": (sizes.std() / len(sizes) ** 0.5).item(),
            "bits_per_dim_in_one_picture": in_one_picture(images, name),
        }
    lines = [[f"{len(images):,} {split} images", "one by one", "in one picture"]]
    for name, row in found.items():
        together = row["bits_per_dim_in_one_picture"]
        lines.append([name, f"{row['bits_per_dim']:.3f}", "-" if together is None else f"{together:.3f}"])
    print(as_markdown(lines))
    if out is not None:
        Path(out).write_text(to_json({"split": split, "images": len(images), "codecs": found}) + "\n")


def codecs() -> list[str]:
    """Return the names of the codecs that are installed."""
    try:
        import pillow_jxl  # noqa: F401, registers the format
    except ModuleNotFoundError:
        return [name for name in OPTIONS if name != "JPEG-XL"]
    return list(OPTIONS)


def size(image: Tensor, codec: str) -> int:
    """Return the bytes that a codec needs for a uint8 image `(C, H, W)`."""
    pixels = image.permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(stream, **OPTIONS[codec])
    return len(stream.getvalue())


def in_one_picture(images: Tensor, codec: str) -> float | None:
    """Return the bits/dim of images that are coded side by side, or None if the codec has no pictures of this size."""
    picture = side_by_side(images)
    if max(picture.shape) > LARGEST_SIDE.get(codec, math.inf):
        _, height, width = picture.shape
        print(f"{codec} has no pictures of {width}x{height} pixels: give fewer images by num_images", file=sys.stderr)
        return None
    return 8 * size(picture, codec) / images.numel()


def side_by_side(images: Tensor) -> Tensor:
    """Return images `(B, C, H, W)` side by side as one picture, `(C, H', W')`. The last row may end in black."""
    return make_grid(images, math.ceil(len(images) ** 0.5), padding=0)[: images.shape[1]]


if __name__ == "__main__":
    main()
