"""Sample images from a trained flow: one file, nothing else to configure.

Examples:
    python sample.py                                                # Fashion-MNIST, from weights that come with this
    python sample.py ckpt=outputs/mine/best.safetensors
    python sample.py ckpt=PATH 'temperature=[0,0.5,0.7,1]'          # a row each, the same seeds in every row
    python sample.py ckpt=PATH num_samples=50000 temperature=0.7    # in folders of 1,000 images
    python sample.py ckpt=PATH label=3                              # of a class-conditional flow
"""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor

from flows.arguments import require_positive
from flows.check_inputs import check_seeds, check_temperature
from flows.image_flow import ImageFlow
from flows.training import check_arguments, command_line, image_grid, load_flow, pick_device, save_png, set_tf32
from flows.training.grid import check_channels

SHARD = 1000
"""Images a folder."""


@command_line("conf", "sample")
def main(cfg: DictConfig) -> None:
    """Draw as the config says."""
    arguments: Any = OmegaConf.to_container(cfg, throw_on_missing=True)
    check_arguments(draw, arguments)
    draw(**arguments)


def draw(
    *,
    ckpt: str,
    temperature: float | list[float],
    num_samples: int,
    seed: int,
    label: int | None,
    nrow: int,
    out: str,
    device: str,
    batch_size: int,
) -> None:
    """Write `OUT/grid.png` and `OUT/temperature-T/SHARD/SEED.png`; see conf/sample.yaml for the arguments."""
    require_positive(num_samples=num_samples, nrow=nrow, batch_size=batch_size)
    several = isinstance(temperature, list)
    temperatures = [check_temperature(t) for t in (temperature if isinstance(temperature, list) else [temperature])]
    if not temperatures or len(set(temperatures)) < len(temperatures):
        raise ValueError(f"temperature is a number, or a list of numbers that all differ, got {temperature}")
    check_seeds([seed, seed + num_samples - 1])
    folders = {t: Path(out) / f"temperature-{text(t)}" for t in temperatures}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(f"{folder} holds samples already: give another folder by out=, or remove it")

    set_tf32(False)
    flow = load_flow(ckpt).to(pick_device(device))
    check_channels(flow.image_shape[0])
    columns = min(nrow, num_samples)
    num_shown = columns if several else min(nrow * columns, num_samples)
    shown = []
    for t, folder in folders.items():
        starts = range(seed, seed + num_samples, batch_size)
        for start in track(starts, f"temperature {text(t)}", console=Console(stderr=True), transient=True):
            seeds = range(start, min(start + batch_size, starts.stop))
            images = flow.sample(seeds, t, labels(flow, label, seeds)).cpu()
            for image_seed, image in zip(seeds, images, strict=True):
                save_png(image, folder / f"{image_seed // SHARD * SHARD:08d}" / f"{image_seed:08d}.png")
            shown.append(images[: max(0, seed + num_shown - start)])
    grid = Path(out) / "grid.png"
    save_png(image_grid(torch.cat(shown), columns), grid)
    print(f"{grid}: {'a row each at' if several else 'at'} temperature {', '.join(map(text, temperatures))}")
    print(f"{out}/temperature-*/: {num_samples:,} images each, seeds from {seed}")


def text(temperature: float) -> str:
    """Return a temperature in as many digits as tell it from all others."""
    return repr(temperature).removesuffix(".0")


def labels(flow: ImageFlow, label: int | None, seeds: range) -> Tensor | None:
    """Return a label for each seed: the one given, or all classes in turn; None for an unconditional flow.

    Raises:
        ValueError: if an unconditional flow is given a label, or a conditional one a label it does not know.
    """
    if flow.num_classes is None:
        if label is not None:
            raise ValueError("this flow was trained without labels: leave label out")
        return None
    if label is not None and not 0 <= label < flow.num_classes:
        raise ValueError(f"label is between 0 and {flow.num_classes - 1}, got {label}")
    chosen = [seed % flow.num_classes if label is None else label for seed in seeds]
    return torch.tensor(chosen, device=next(flow.parameters()).device)


if __name__ == "__main__":
    main()
