"""Images along a way through several images, as a grid and as animations.

Examples:
    python scripts/edit/interpolate.py 'images=[a.png,b.png]'
    python scripts/edit/interpolate.py ckpt=PATH images=shirts num_steps=20 straight=true
"""

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from flows.edits import path_through
from flows.training import call, command_line, image_grid, load_flow, pick_device, save_png
from flows.training.grid import enlarged
from scripts.edit.labels import labels_for
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images

MOST_SECONDS = 655
"""The longest time of a frame that a GIF can store."""


@command_line("../../conf", "edit/interpolate")
def main(cfg: DictConfig) -> None:
    """Interpolate between the images that the config names."""
    call(interpolate, cfg)


@torch.no_grad()
def interpolate(
    *,
    ckpt: str,
    images: str | list[str],
    num_steps: int,
    straight: bool,
    label: int | None,
    seconds: float,
    out: str,
    device: str,
) -> None:
    """Write `grid.png`, `way.gif` and `way.webp` into `out`."""
    check_new_folder(out)
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f"seconds is a number from 0 to {MOST_SECONDS}, got {seconds}")
    place = pick_device(device)
    flow = load_flow(ckpt).to(place)
    originals, _ = read_images(images, flow.image_shape)
    if len(originals) < 2:
        raise ValueError(f"a way leads through at least two images, got {len(originals)}: give more by images=[A,B]")
    labels = labels_for(flow, label, len(originals))
    zs = flow.encode(originals.to(place), labels)
    along = path_through([[z[k : k + 1] for z in zs] for k in range(len(originals))], num_steps, straight=straight)
    frames = flow.decode(along, None if labels is None else labels[:1].expand(len(along[0]))).cpu()
    folder = new_folder(out)
    save_png(image_grid(frames, num_steps + 1 if len(originals) == 2 else num_steps), folder / "grid.png")
    for ending in ("gif", "webp"):
        save_animation(frames, folder / f"way.{ending}", seconds)
    print(f"{folder}: grid.png, way.gif and way.webp of {len(frames)} images")


def save_animation(frames: Tensor, path: Path, seconds: float) -> None:
    """Write frames `(N, C, H, W)` there and back again, as a GIF or WebP, at a size that can be seen.

    Args:
        frames: uint8, grey or colour.
        path: its ending says which kind.
        seconds: of one frame.
    """
    zoom = max(1, 196 // max(frames.shape[2:]))
    shape = (3, frames.shape[2] * zoom, frames.shape[3] * zoom)
    pictures = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in enlarged(frames.cpu(), shape)]
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    first, *rest = there_and_back
    first.save(path, save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0, **options)


if __name__ == "__main__":
    main()
