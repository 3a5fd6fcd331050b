"""Images along a way through several images, as a grid and as animations.

Examples:
    python scripts/edit/interpolate.py 'images=[a.png,b.png]'
    python scripts/edit/interpolate.py ckpt=PATH images=shirts num_steps=20 straight=true
"""

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that scripts.* are found from any folder

from flows.edits import path_through
from flows.training import check_arguments, command_line, image_grid, load_flow, pick_device, save_png
from scripts.edit.pictures import labels_for, save_animation
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images

MOST_SECONDS = 655
"""The longest time of a frame that a GIF can store."""


@command_line("../../conf", "edit/interpolate")
def main(cfg: DictConfig) -> None:
    """Interpolate between the images that the config names."""
    arguments: Any = OmegaConf.to_container(cfg, throw_on_missing=True)
    del arguments["imports"]
    check_arguments(interpolate, arguments)
    interpolate(**arguments)


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


if __name__ == "__main__":
    main()
