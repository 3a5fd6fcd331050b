"""Draw sample images from a trained flow. One file is all it needs.

Examples:
    python sample.py                                                # Fashion-MNIST; the weights come with the project
    python sample.py ckpt=outputs/mine/best.safetensors
    python sample.py ckpt=PATH 'temperature=[0,0.5,0.7,1]'          # one row per temperature, all with the same seeds
    python sample.py ckpt=PATH num_samples=50000 temperature=0.7    # writes folders of 1,000 images
    srun python sample.py ckpt=PATH num_samples=50000 temperature=0.7   # shared by the tasks of a SLURM job
    python sample.py ckpt=PATH label=3                              # for a class-conditional flow
    python sample.py ckpt=PATH condition=small                      # for a flow that is given images: a folder of them
"""

import sys
from pathlib import Path
from typing import Any

try:
    import torch
    from omegaconf import DictConfig, OmegaConf
    from PIL import Image
    from rich.console import Console
    from rich.progress import track
    from torch import Tensor

    from flows.arguments import require_positive
    from flows.check_inputs import check_seeds, check_temperatures
    from flows.image_flow import ImageFlow
    from flows.training import check_arguments, command_line, image_grid, load_flow, pick_device, save_png, set_tf32
    from flows.training.grid import check_channels, enlarged
    from flows.training.machine.sharing import shared
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: in the folder of sample.py, run {sys.executable} -m pip install --editable '.[train]'")

SHARD = 1000
"""Images per folder."""


@command_line("conf", "sample")
def main(cfg: DictConfig) -> None:
    """Draw the samples that the config asks for."""
    arguments: Any = OmegaConf.to_container(cfg, throw_on_missing=True)
    del arguments["imports"]  # the modules are imported already
    check_arguments(draw, arguments)
    draw(**arguments)


def draw(
    *,
    ckpt: str,
    temperature: float | list[float],
    num_samples: int,
    seed: int,
    label: int | None,
    condition: str | None,
    nrow: int,
    out: str,
    device: str,
    batch_size: int,
) -> None:
    """Write `OUT/grid.png` and `OUT/temperature-T/SHARD/SEED.png`; see conf/sample.yaml for the arguments."""
    require_positive(num_samples=num_samples, nrow=nrow, batch_size=batch_size)
    several = isinstance(temperature, list) or condition is not None
    temperatures = check_temperatures(temperature)
    check_seeds([seed, seed + num_samples - 1])
    place = pick_device(device)
    folders = {t: Path(out) / f"temperature-{text(t)}" for t in temperatures}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(f"{folder} holds samples already: give another folder by out=, or remove it")

    set_tf32(False)
    flow = load_flow(ckpt)
    check_channels(flow.image_shape[0])
    conditions = read_conditions(flow, condition)
    columns = min(nrow, num_samples)
    num_shown = columns if several else min(nrow * columns, num_samples)
    first_row = chosen(conditions, range(seed, seed + columns), torch.device("cpu"))
    shown = [] if first_row is None else [enlarged(first_row, flow.image_shape)]
    seeds = range(seed, seed + num_samples)
    batches = [seeds[start : start + batch_size] for start in range(0, num_samples, batch_size)]
    with shared() as share:
        flow = flow.to(place)
        for t, folder in folders.items():
            told = track(share.of(batches), f"temperature {text(t)}", console=Console(stderr=True), transient=True)
            first = []
            for some in told:
                images = flow.sample(some, t, labels(flow, label, some), chosen(conditions, some, place)).cpu()
                for image_seed, image in zip(some, images, strict=True):
                    save_png(image, folder / f"{image_seed // SHARD * SHARD:08d}" / f"{image_seed:08d}.png")
                first.append(images[: max(0, seed + num_shown - some.start)].clone())  # a copy, to free the rest
            shown += share.gathered(first)
    if not share.is_first:
        return
    grid = Path(out) / "grid.png"
    save_png(image_grid(torch.cat(shown), columns), grid)
    rows = "one row per temperature:" if several else "temperature"
    begins = "" if conditions is None else "the conditions, then "
    print(f"{grid}: {begins}{rows} {', '.join(map(text, temperatures))}")
    print(f"{out}/temperature-*/: {num_samples:,} images each, seeds from {seed}")


def text(temperature: float) -> str:
    """Return a temperature with enough digits to be different from all other temperatures."""
    return repr(temperature).removesuffix(".0")


def labels(flow: ImageFlow, label: int | None, seeds: range) -> Tensor | None:
    """Return a label for each seed: the given label, or all classes in turn. Return None for an unconditional flow.

    Raises:
        ValueError: if an unconditional flow gets a label, or if a conditional flow gets a label that it does not know.
    """
    if flow.num_classes is None:
        if label is not None:
            raise ValueError("this flow was trained without labels: leave label out")
        return None
    if label is not None and not 0 <= label < flow.num_classes:
        raise ValueError(f"label is between 0 and {flow.num_classes - 1}, got {label}")
    chosen = [seed % flow.num_classes if label is None else label for seed in seeds]
    return torch.tensor(chosen, device=next(flow.parameters()).device)


def read_conditions(flow: ImageFlow, folder: str | None) -> Tensor | None:
    """Return the images of a folder, sorted by name: uint8 `(N, *flow.condition_shape)`.

    Return None for a flow that has no condition.

    Raises:
        ValueError: if the flow has a condition, but there are no images or their size is another one; or if it has no
            condition, but a folder is given.
    """
    if flow.condition_shape is None:
        if folder is not None:
            raise ValueError("this flow was trained without conditions: leave condition out")
        return None
    _, height, width = flow.condition_shape
    size = f"{width}x{height} pixels (width x height)"
    if folder is None:
        raise ValueError(f"this flow is given images of {size}: name a folder of such images by condition=FOLDER")
    from data.files.decode import check_shape, decode
    from data.files.formats import is_named_like_an_image

    paths = sorted(path for path in Path(folder).expanduser().glob("*") if is_named_like_an_image(path))
    if not paths:
        raise ValueError(f"condition={folder} is no folder with images in it: give one with images of {size}")
    for path in paths:
        with Image.open(path) as image:
            if image.size != (width, height):
                raise ValueError(
                    f"{path} has {image.size[0]}x{image.size[1]} pixels, and this flow is given images of {size}: "
                    "scale it before"
                )
    return torch.stack([decode(path, check_shape(flow.condition_shape)) for path in paths])


def chosen(conditions: Tensor | None, seeds: range, device: torch.device) -> Tensor | None:
    """Return the condition for each seed: all conditions in turn. Return None if there are no conditions."""
    return None if conditions is None else conditions[[seed % len(conditions) for seed in seeds]].to(device)


if __name__ == "__main__":
    main()
