"""Make more training images with a flow, in a folder that any training can read.

Examples:
    python scripts/augment.py ckpt=outputs/mine/best.safetensors out=more                    # samples of each class
    python scripts/augment.py ckpt=PATH data.num_train=100 by=latents angle=20 out=more      # near training images
    python scripts/classify.py data.num_train=100 extra=more                                 # what they are worth

The folder has one subfolder per class, named by its label, and about.json, which says how the images were made. Give
the same data settings as in the training of the flow: the images of `by=latents` start from its training images.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import ImageData, ImageSet
from data.order import shuffled
from flows import Sampler
from flows.arguments import choose, require_positive
from flows.check_inputs import check_angle, check_guidance, check_seeds, check_temperature
from flows.edits import turned
from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow
from flows.training import (
    call,
    check_class_names,
    check_config,
    command_line,
    load_flow,
    pick_device,
    save_png,
    set_tf32,
    to_json,
)
from flows.training.command.track import track
from flows.training.given import check_fits, given, on_device
from flows.training.grid import check_channels
from flows.training.knobs import Knobs
from flows.training.quality.samples import drawn, in_batches
from flows.whole_file import whole_file
from scripts.files.new_folder import check_new_folder, new_folder

DEFAULTS = {"samples": {"temperature": 1.0, "guidance": 0.0}, "latents": {"angle": 30.0}}
"""The settings of each way to make images."""

CHECKS: dict[str, Callable[[float], float]] = {
    "temperature": check_temperature,
    "guidance": check_guidance,
    "angle": check_angle,
}
"""What refuses a setting that is out of range."""


@command_line("../conf", "augment")
def main(cfg: DictConfig) -> None:
    """Make the images that the config asks for."""
    check_config(cfg)
    call(augment, cfg)


@torch.no_grad()
def augment(
    *,
    data: ImageData,
    ckpt: str,
    by: str,
    num_images: int,
    temperature: float | None,
    guidance: float | None,
    angle: float | None,
    seed: int,
    out: str,
    batch_size: int,
    device: str,
) -> None:
    """Write the images and `about.json` into `out`; see conf/augment.yaml for the arguments."""
    require_positive(num_images=num_images, batch_size=batch_size)
    check_new_folder(out)
    check_seeds([seed, seed + num_images - 1])
    chosen = settings_of(by, temperature=temperature, guidance=guidance, angle=angle)
    place = pick_device(device)
    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    check_channels(flow.image_shape[0])
    names = class_folders(data)
    check_flow(ckpt, flow, data, by)
    flow.check_drawing(chosen.get("guidance", 0.0))
    data.prepare_data()
    data.setup()
    check_class_names(None if provenance is None else provenance.class_names, data.class_names)
    flow, train_set = flow.to(place), data.sets["train"]
    seeds = range(seed, seed + num_images)
    folder = new_folder(out)
    for name in names:
        (folder / name).mkdir()
    sampler = Sampler(flow)
    for some in track(in_batches(seeds, batch_size), by):
        if by == "samples":
            images, labels = drawn(sampler, some, Knobs(chosen["temperature"], chosen["guidance"]))
            assert labels is not None
        else:
            images, labels = near(flow, sampler, train_set, some, **chosen)
        for image, label, number in zip(images.cpu(), labels.tolist(), some, strict=True):
            save_png(image, folder / names[label] / f"{number:08d}.png")
    about = {
        "by": by,
        **chosen,
        "num_images": num_images,
        "seed": seed,
        "ckpt": ckpt,
        "flow": fingerprint(flow),
        "data_of_the_flow": None if provenance is None else provenance.data,
        "num_train_images": len(train_set),
        "class_names": data.class_names,
    }
    with whole_file(folder / "about.json") as partial:
        partial.write_text(to_json(about) + "\n", encoding="utf-8")
    print(f"{folder}: {num_images:,} images by {by}, {', '.join(f'{key} {value:g}' for key, value in chosen.items())}")


def settings_of(by: str, **told: float | None) -> dict[str, float]:
    """Return the settings of a way to make images: those told, and the defaults of those that are None.

    Raises:
        ValueError: if one is out of range, or belongs to another way.
    """
    chosen = {**choose("by", DEFAULTS, by)}
    for key, value in told.items():
        if value is not None and key not in chosen:
            (other,) = (way for way, settings in DEFAULTS.items() if key in settings)
            raise ValueError(f"{key} is for by={other}: leave it out with by={by}")
        if value is not None:
            chosen[key] = CHECKS[key](value)
    return chosen


def class_folders(data: ImageData) -> list[str]:
    """Return the name of the folder of each class: its label, so written that the sorted names are those of 0, 1, ...

    Raises:
        ValueError: if the data have no classes.
    """
    if data.num_classes is None:
        raise ValueError("data.num_classes is null, and each class gets a folder: give labelled data and their number")
    width = len(str(data.num_classes - 1))
    return [f"{label:0{width}d}" for label in range(data.num_classes)]


def check_flow(ckpt: str, flow: ImageFlow, data: ImageData, by: str) -> None:
    """Check that a flow can make images of these classes.

    Raises:
        ValueError: if not; the message calls the flow by its name.
    """
    if flow.condition_shape is not None:
        raise ValueError(f"{ckpt} is a flow that is given images: take one that is given labels only")
    if by == "samples" and flow.num_classes is None:
        raise ValueError(
            f"{ckpt} was trained without labels, so that the classes of its samples are not known: train one with "
            "'model.num_classes=${data.num_classes}', or take by=latents"
        )
    check_fits(ckpt, flow, data)


def near(flow: ImageFlow, sampler: Sampler, images: ImageSet, seeds: range, angle: float) -> tuple[Tensor, Tensor]:
    """Turn images in latent space, all of them in turn, and return what becomes of them with their labels."""
    order = shuffled(len(images), "augment")
    (batch,) = on_device([images[order[torch.tensor(seeds) % len(order)].tolist()]], next(flow.parameters()).device)
    label = given(flow, batch).get("label")
    return sampler.decode(turned(flow, flow.encode(batch.images, label), angle, seeds), label), batch.labels


if __name__ == "__main__":
    main()
