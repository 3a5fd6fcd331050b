"""Bits per dimension of a trained flow on any data and split.

Examples:
    python scripts/evaluate.py ckpt=outputs/mine/best.safetensors
    python scripts/evaluate.py ckpt=PATH data=cifar10 split=val num_draws=16   # data.num_val as in the run
    python scripts/evaluate.py ckpt=PATH num_draws=64 importance_weighted=true
"""

import json
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from data import ImageData
from flows.arguments import choose
from flows.likelihood import draw_log_probs, importance_weighted_bits_per_dim, mean_bits_per_dim
from flows.training import ImageAverage, load_flow, pick_device, set_tf32


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@torch.no_grad()
def main(cfg: DictConfig) -> None:
    """Print the result as JSON, and write it to `out` if given."""
    if cfg.num_draws < 1:
        raise ValueError(f"num_draws is at least 1, got {cfg.num_draws}")
    set_tf32(False)
    device = pick_device(cfg.device)
    flow = load_flow(cfg.ckpt).to(device)
    data: ImageData = instantiate(cfg.data)
    data.prepare_data()
    data.setup()
    loaders = {"train": data.train_eval_dataloader, "val": data.val_dataloader, "test": data.test_dataloader}
    bits, weighted = ImageAverage(), ImageAverage()
    loader = choose("split", loaders, cfg.split)()
    for batch in track(loader, f"{cfg.split} images", console=Console(stderr=True), transient=True):
        images, labels, index = (tensor.to(device) for tensor in batch)
        label = None if flow.num_classes is None else labels
        log_probs = draw_log_probs(flow, images, label, index, num_draws=cfg.num_draws, seed=cfg.noise_seed)
        bits.update(mean_bits_per_dim(log_probs, flow.num_dims), index)
        weighted.update(importance_weighted_bits_per_dim(log_probs, flow.num_dims), index)

    average = bits.compute()
    result = {
        "ckpt": str(cfg.ckpt),
        "split": cfg.split,
        "images": average.num_images,
        "num_draws": cfg.num_draws,
        "noise_seed": cfg.noise_seed,
        "bits_per_dim": average.mean,
        "standard_error": average.standard_error,
    }
    if cfg.importance_weighted:
        average = weighted.compute()
        result["importance_weighted_bits_per_dim"] = average.mean
        result["importance_weighted_standard_error"] = average.standard_error
    print(json.dumps(result, indent=2))
    if cfg.out is not None:
        Path(cfg.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
