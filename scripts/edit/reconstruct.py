"""Encode images into latents, and decode them again.

Examples:
    python scripts/edit/reconstruct.py images=shirts                  # all images of a folder
    python scripts/edit/reconstruct.py ckpt=PATH 'images=[a.png,b.png]' label=3
"""

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from flows.edits import save_latents
from flows.training import call, command_line, image_grid, load_flow, pick_device, save_png
from scripts.edit.labels import labels_for
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images


@command_line("../../conf", "edit/reconstruct")
def main(cfg: DictConfig) -> None:
    """Reconstruct the images that the config names."""
    call(reconstruct, cfg)


@torch.no_grad()
def reconstruct(*, ckpt: str, images: str | list[str], label: int | list[int] | None, out: str, device: str) -> None:
    """Write `grid.png` (originals above), `latents.npz`, and one PNG file per image into `out`."""
    check_new_folder(out)
    place = pick_device(device)
    flow = load_flow(ckpt).to(place)
    originals, names = read_images(images, flow.image_shape)
    labels = labels_for(flow, label, len(originals))
    zs = flow.encode(originals.to(place), labels)
    again = flow.decode(zs, labels).cpu()
    folder = new_folder(out)
    save_latents(folder / "latents.npz", flow, zs, names)
    for number, image in enumerate(again):
        save_png(image, folder / f"{number:04d}.png")
    save_png(image_grid(torch.cat((originals, again)), len(originals)), folder / "grid.png")
    wrong = (flow.dequantize.without_low_bits(originals) != again).flatten(1).any(1).sum().item()
    print(f"{folder}: {len(again)} images, {wrong} of them not the same as before, and their latents")


if __name__ == "__main__":
    main()
