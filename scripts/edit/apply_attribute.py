"""Add an attribute to images, in several strengths.

Examples:
    python scripts/edit/apply_attribute.py attribute=sleeves.safetensors images=shirts 'strengths=[-1,0,1]'
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from flows.check_inputs import check_several
from flows.edits import Attribute
from flows.training import call, command_line, image_grid, load_flow, pick_device, save_png
from flows.training.grid import with_names
from scripts.edit.labels import labels_for
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images


@command_line("../../conf", "edit/apply_attribute")
def main(cfg: DictConfig) -> None:
    """Add the attribute to the images that the config names."""
    call(apply, cfg)


def check_strength(value: Any) -> float:
    """Return a strength.

    Raises:
        ValueError: if it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"strengths are finite numbers, as in strengths=[-1,0,1], got {value!r}")
    return float(value)


@torch.no_grad()
def apply(
    *,
    ckpt: str,
    attribute: str,
    images: str | list[str],
    strengths: list[float],
    label: int | list[int] | None,
    out: str,
    device: str,
) -> None:
    """Write `grid.png`, one row per image and one column per strength, and one PNG file per image into `out`."""
    strengths = check_several("strengths", strengths, check_strength)
    if len({f"{strength:g}" for strength in strengths}) < len(strengths):
        raise ValueError(f"strengths that agree in six digits would have one name, got {strengths}")
    check_new_folder(out)
    place = pick_device(device)
    flow = load_flow(ckpt)
    direction = Attribute.load(attribute, flow)
    flow = flow.to(place)
    originals, _ = read_images(images, flow.image_shape)
    labels = labels_for(flow, label, len(originals))
    zs = flow.encode(originals.to(place), labels)
    columns = [flow.decode(direction.applied(zs, strength), labels).cpu() for strength in strengths]
    folder = new_folder(out)
    for number, row in enumerate(zip(*columns, strict=True)):
        for strength, image in zip(strengths, row, strict=True):
            save_png(image, folder / f"{number:04d}_{strength:g}.png")
    grid = image_grid(torch.stack(columns, 1).flatten(0, 1), len(strengths))
    save_png(with_names(grid, [f"{strength:g}" for strength in strengths], []), folder / "grid.png")
    print(f"{folder}: {direction.name} in {len(strengths)} strengths on {len(originals)} images")


if __name__ == "__main__":
    main()
