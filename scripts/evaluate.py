"""Measure the bits per dimension of a trained flow on any data and split.

Examples:
    python scripts/evaluate.py ckpt=outputs/mine/best.safetensors
    python scripts/evaluate.py ckpt=PATH data=cifar10 split=val num_draws=16   # data.num_val as in the run
    python scripts/evaluate.py ckpt=PATH num_draws=64 importance_weighted=true
    python scripts/evaluate.py ckpt=PATH without_labels=true       # a class-conditional flow: also without labels
    torchrun --nproc-per-node=8 scripts/evaluate.py ckpt=PATH      # eight processes, one per GPU, share the images
"""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from torch import Tensor

from data import Batch, ImageData
from flows.arguments import choose, require_positive
from flows.image_flow import ImageFlow
from flows.likelihood import draw_log_probs, importance_weighted_bits_per_dim, mean_bits_per_dim
from flows.training import (
    ImageAverage,
    check_arguments,
    check_class_names,
    check_config,
    command_line,
    load_flow,
    pick_device,
    set_tf32,
    to_json,
)
from flows.training.given import check_conditions, check_fits, given, on_device
from flows.training.machine.sharing import shared


@command_line("../conf", "evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate the flow as the config says."""
    check_config(cfg)
    arguments = {str(key): cfg[key] for key in cfg if key not in ("data", "data_root", "seed", "imports")}
    check_arguments(evaluate, arguments)
    evaluate(data=instantiate(cfg.data), **arguments)


@torch.no_grad()
def evaluate(
    *,
    data: ImageData,
    ckpt: str,
    split: str,
    num_draws: int,
    noise_seed: int,
    importance_weighted: bool,
    without_labels: bool,
    out: str | None,
    device: str,
) -> None:
    """Print the result as JSON, and write it to `out` if given; see conf/evaluate.yaml for the arguments."""
    require_positive(num_draws=num_draws)
    place = pick_device(device)
    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    if without_labels and flow.num_classes is None:
        raise ValueError(f"{ckpt} was trained without labels: leave without_labels out")
    check_fits(ckpt, flow, data)
    check_conditions(flow, data.condition_shape)
    data.prepare_data()
    data.setup()
    if flow.num_classes is not None and provenance is not None:
        check_class_names(provenance.class_names, data.class_names)
    images = choose("split", data.sets, split)
    with shared() as share:
        flow = flow.to(place)
        loader = data.batches(images, share.rank, share.world_size)
        told = track(
            on_device(loader, place), f"{split} images", len(loader), console=Console(stderr=True), transient=True
        )
        found = [
            (
                {
                    prefix: draw_log_probs(
                        flow,
                        batch.images,
                        label,
                        batch.index,
                        num_draws=num_draws,
                        seed=noise_seed,
                        condition=batch.condition,
                    ).cpu()
                    for prefix, label in labels(flow, batch, without_labels).items()
                },
                batch.index.cpu(),
            )
            for batch in told
        ]
        found = share.gathered(found)
        if not share.is_first:
            return

    result: dict[str, Any] = {
        "ckpt": ckpt,
        "split": split,
        "images": None,
        "dequantize": flow.dequantize.noise_name,
        "num_draws": num_draws,
        "noise_seed": noise_seed,
    }
    bounds = {"": mean_bits_per_dim}
    if importance_weighted:
        bounds["importance_weighted_"] = importance_weighted_bits_per_dim
    for prefix in found[0][0]:
        for kind, bound in bounds.items():
            bits = ImageAverage()
            for log_probs, index in found:
                bits.update(bound(log_probs[prefix], flow.num_dims), index)
            average = bits.compute()
            result["images"] = average.num_images
            result[f"{prefix}{kind}bits_per_dim"] = average.mean
            result[f"{prefix}{kind}standard_error"] = average.standard_error
    print(to_json(result))
    if out is not None:
        Path(out).write_text(to_json(result) + "\n")


def labels(flow: ImageFlow, batch: Batch, without_labels: bool) -> dict[str, Tensor | None]:
    """Return the labels under which images are measured, by the prefix of the names of the results."""
    found = {"": given(flow, batch).get("label")}
    if without_labels:
        found["without_labels_"] = None
        if flow.label_dropout:
            found["dropped_label_"] = flow.dropped_label(batch.images)
    return found


if __name__ == "__main__":
    main()
