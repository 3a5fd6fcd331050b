"""Make an attribute: the direction in latent space from images without something to images with it.

Examples:
    python scripts/edit/make_attribute.py having=long lacking=short name=sleeves out=sleeves.safetensors
    python scripts/edit/make_attribute.py data=fashion_mnist having=Pullover lacking=T-shirt/top name=sleeves
    python scripts/edit/make_attribute.py data=fashion_mnist 'having=[5,7,9]' name=shoes   # against all other classes
"""

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from data import EvalOrder, ImageData, ImageSet
from flows.arguments import require_positive
from flows.edits import attribute_between
from flows.image_flow import ImageFlow
from flows.training import call, check_config, command_line, load_flow, pick_device
from flows.training.given import check_fits, check_labels
from scripts.edit.labels import labels_for
from scripts.edit.sides import sides_of_classes, sides_of_files
from scripts.files.new_file import check_new_file


@command_line("../../conf", "edit/make_attribute")
def main(cfg: DictConfig) -> None:
    """Make the attribute that the config describes."""
    check_config(cfg)
    call(make, cfg)


def make(
    *,
    data: ImageData | None = None,
    ckpt: str,
    name: str,
    having: str | int | list[str | int],
    lacking: str | int | list[str | int] | None,
    num_images: int,
    seed: int,
    label: int | None,
    batch_size: int,
    out: str,
    device: str,
) -> None:
    """Write the attribute into the file `out`; see conf/edit/make_attribute.yaml for the arguments."""
    require_positive(batch_size=batch_size, num_images=num_images)
    check_new_file("out", out, ".safetensors")
    path = Path(out)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    flow = flow.to(pick_device(device))
    if data is None:
        sides = sides_of_files(having, lacking, flow.image_shape)
    else:
        check_fits(ckpt, flow, data)
        sides = sides_of_classes(data, having, lacking, num_images, seed)
        check_labels(flow, provenance, data)
    attribute = attribute_between(flow, name, *(encoded(flow, side, label, batch_size) for side in sides))
    attribute.save(path)
    print(f"{path}: {name}, from {attribute.num_with} images with it and {attribute.num_without} without")


@torch.no_grad()
def encoded(flow: ImageFlow, images: ImageSet, label: int | None, batch_size: int) -> list[list[Tensor]]:
    """Return the latents of images, in batches, given one label for all or their own labels."""
    own = images.labels.tolist() if flow.num_classes is not None and (images.labels >= 0).all() else None
    labels, place = labels_for(flow, own if label is None else label, len(images)), next(flow.parameters()).device
    return [
        flow.encode(images[rows].images.to(place), None if labels is None else labels[rows])
        for rows in EvalOrder(len(images), batch_size)
    ]


if __name__ == "__main__":
    main()
