"""Decode latents from a file.

Examples:
    python scripts/edit/decode.py latents=reconstruct/latents.npz
"""

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from flows.edits import load_latents
from flows.training import call, command_line, image_grid, load_flow, pick_device, save_png
from flows.training.grid import check_channels
from scripts.edit.labels import labels_for
from scripts.files.new_folder import check_new_folder, new_folder

NUM_COLUMNS = 8
"""Images per row of the grid."""


@command_line("../../conf", "edit/decode")
def main(cfg: DictConfig) -> None:
    """Decode the latents that the config names."""
    call(decode, cfg)


@torch.no_grad()
def decode(*, ckpt: str, latents: str, label: int | list[int] | None, out: str, device: str) -> None:
    """Write `grid.png` and one PNG file per image into `out`."""
    check_new_folder(out)
    place = pick_device(device)
    flow = load_flow(ckpt).to(place)
    check_channels(flow.image_shape[0])
    zs, _ = load_latents(latents, flow)
    labels = labels_for(flow, label, len(zs[0]))
    images = flow.decode([z.to(place) for z in zs], labels).cpu()
    folder = new_folder(out)
    for number, image in enumerate(images):
        save_png(image, folder / f"{number:04d}.png")
    save_png(image_grid(images, NUM_COLUMNS), folder / "grid.png")
    print(f"{folder}: {len(images)} images")


if __name__ == "__main__":
    main()
