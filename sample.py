"""Sample images from a trained flow: one file, nothing else to configure.

Examples:
    python sample.py ckpt=outputs/mine/best.safetensors
    python sample.py ckpt=PATH 'temperature=[0,0.5,0.7,1]'          # a row each, the same seeds in every row
    python sample.py ckpt=PATH num_samples=50000 temperature=0.7    # in folders of 1,000 images
    python sample.py ckpt=PATH label=3                              # of a class-conditional flow
"""

from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from torch import Tensor

from flows.image_flow import ImageFlow
from flows.training import image_grid, load_flow, pick_device, save_png, set_tf32

SHARD = 1000
"""Images a folder."""


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
def main(cfg: DictConfig) -> None:
    """Write `OUT/grid.png` and `OUT/temperature-T/SHARD/SEED.png`."""
    if cfg.num_samples < 1:
        raise ValueError(f"num_samples is at least 1, got {cfg.num_samples}")
    several = not isinstance(cfg.temperature, int | float)
    temperatures = [float(t) for t in cfg.temperature] if several else [float(cfg.temperature)]
    folders = {temperature: Path(cfg.out) / f"temperature-{temperature:g}" for temperature in temperatures}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(f"{folder} holds samples already: give another folder by out=, or remove it")

    set_tf32(False)
    flow = load_flow(cfg.ckpt).to(pick_device(cfg.device))
    columns = min(cfg.nrow, cfg.num_samples)
    num_shown = columns if several else min(cfg.nrow * columns, cfg.num_samples)
    shown = []
    for temperature, folder in folders.items():
        starts = range(cfg.seed, cfg.seed + cfg.num_samples, cfg.batch_size)
        for start in track(starts, f"temperature {temperature:g}", console=Console(stderr=True), transient=True):
            seeds = range(start, min(start + cfg.batch_size, starts.stop))
            images = flow.sample(seeds, temperature, labels(flow, cfg.label, seeds)).cpu()
            for seed, image in zip(seeds, images, strict=True):
                save_png(image, folder / f"{seed // SHARD * SHARD:08d}" / f"{seed:08d}.png")
            shown.append(images[: max(0, cfg.seed + num_shown - start)])
    grid = Path(cfg.out) / "grid.png"
    save_png(image_grid(torch.cat(shown), columns), grid)
    print(f"{grid}: {'a row each at' if several else 'at'} temperature {', '.join(f'{t:g}' for t in temperatures)}")
    print(f"{cfg.out}/temperature-*/: {cfg.num_samples:,} images each, seeds from {cfg.seed}")


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
