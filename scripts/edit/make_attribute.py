"""Make an attribute: the direction in latent space from images without something to images with it.

Examples:
    python scripts/edit/make_attribute.py having=long lacking=short name=sleeves out=sleeves.safetensors
"""

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that scripts.* are found from any folder

from flows.arguments import require_positive
from flows.edits import attribute_between
from flows.image_flow import ImageFlow
from flows.training import check_arguments, command_line, load_flow, pick_device
from scripts.edit.pictures import labels_for, read_images


@command_line("../../conf/edit", "make_attribute")
def main(cfg: DictConfig) -> None:
    """Make the attribute that the config describes."""
    arguments: Any = OmegaConf.to_container(cfg, throw_on_missing=True)
    del arguments["imports"]
    check_arguments(make, arguments)
    make(**arguments)


def make(
    *,
    ckpt: str,
    name: str,
    having: str | list[str],
    lacking: str | list[str],
    label: int | None,
    batch_size: int,
    out: str,
    device: str,
) -> None:
    """Write the attribute into the file `out`."""
    require_positive(batch_size=batch_size)
    path = Path(out)
    if path.exists():
        raise FileExistsError(f"{path} is there already: give another file by out=, or remove it")
    if path.suffix != ".safetensors" or not path.absolute().parent.is_dir():
        raise ValueError(f"out={out} is the .safetensors file to be written, in a folder that is there")
    flow = load_flow(ckpt).to(pick_device(device))
    sides = [encoded(flow, told, label, batch_size) for told in (having, lacking)]
    attribute = attribute_between(flow, name, *sides)
    attribute.save(path)
    print(f"{path}: {name}, from {attribute.num_with} images with it and {attribute.num_without} without")


@torch.no_grad()
def encoded(flow: ImageFlow, told: str | list[str], label: int | None, batch_size: int) -> list[list[Tensor]]:
    """Return the latents of image files, in batches."""
    images, _ = read_images(told, flow)
    labels, place = labels_for(flow, label, len(images)), next(flow.parameters()).device
    batches = []
    for start in range(0, len(images), batch_size):
        some = slice(start, start + batch_size)
        batches.append(flow.encode(images[some].to(place), None if labels is None else labels[some]))
    return batches


if __name__ == "__main__":
    main()
