"""Which levels of a flow carry what: draw the latents of some levels anew, and keep the others.

Examples:
    python scripts/edit/resample_levels.py images=shirts temperature=0.7
"""

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from flows.edits import resampled
from flows.training import call, command_line, image_grid, load_flow, pick_device, save_png
from flows.training.grid import with_names
from scripts.edit.labels import labels_for
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images


@command_line("../../conf", "edit/resample_levels")
def main(cfg: DictConfig) -> None:
    """Resample the levels of the images that the config names."""
    call(resample, cfg)


@torch.no_grad()
def resample(
    *,
    ckpt: str,
    images: str | list[str],
    seed: int,
    temperature: float,
    label: int | list[int] | None,
    out: str,
    device: str,
) -> None:
    """Write `grid.png` into `out`: the images, then one row for each choice of levels that are drawn anew."""
    check_new_folder(out)
    place = pick_device(device)
    flow = load_flow(ckpt).to(place)
    originals, _ = read_images(images, flow.image_shape)
    labels = labels_for(flow, label, len(originals))
    zs = flow.encode(originals.to(place), labels)
    seeds, last = range(seed, seed + len(originals)), len(zs) - 1
    finest = {f"levels 0 to {k}" if k else "level 0": range(k + 1) for k in range(last + 1)}
    coarsest = {
        f"levels {k} to {last}" if k < last else f"level {last}": range(k, last + 1) for k in range(1, last + 1)
    }
    rows = {
        name: flow.decode(resampled(flow, zs, levels, seeds, temperature), labels).cpu()
        for name, levels in (finest | coarsest).items()
    }
    grid = image_grid(torch.cat((originals, *rows.values())), len(originals))
    folder = new_folder(out)
    save_png(with_names(grid, [], ["images", *rows]), folder / "grid.png")
    print(f"{folder}/grid.png: the images, then with these drawn anew: {'; '.join(rows)}")


if __name__ == "__main__":
    main()
