"""Estimate the cost of a training run from counted operations. Nothing is trained, so you can ask for any size.

Examples:
    python scripts/estimate.py experiment=glow_cifar10
    python scripts/estimate.py experiment=glow_imagenet64 trainer=ddp trainer.devices=8 tflops=50
    python scripts/estimate.py experiment=glow_lsun num_images=3033042 model.memory_flat=true
"""

import sys
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data.datamodule import held_out
from flows.arguments import require_positive
from flows.training import check_config, command_line, forecast


@command_line("../conf", "estimate")
def main(cfg: DictConfig) -> None:
    """Print the estimate."""
    check_config(cfg)
    print(*forecast(cfg, images_an_epoch(cfg)).lines(), sep="\n")


def images_an_epoch(cfg: DictConfig) -> int | None:
    """Return how many images are left for training, or None if this is not known before the data are loaded."""
    told = {"num_images": cfg.num_images, "data.num_val": cfg.data.num_val, "data.num_train": cfg.data.num_train}
    require_positive(**{name: number for name, number in told.items() if number is not None})
    source = None if isinstance(cfg.data.source, str) else instantiate(cfg.data.source)
    num_images = getattr(source, "num_images", None) if cfg.num_images is None else cfg.num_images
    if num_images is None:
        return None
    rest = num_images - held_out(num_images, cfg.data.num_val)
    if rest < 1:
        raise ValueError(
            f"of {num_images} images, validation takes {num_images - rest}, and none is left for training: make "
            "data.num_val smaller, or num_images larger"
        )
    return min(rest, cfg.data.num_train or rest)


if __name__ == "__main__":
    main()
