"""Measure the bits per dimension of a trained flow on any data and split.

Examples:
    python scripts/evaluate.py ckpt=outputs/mine/best.safetensors
    python scripts/evaluate.py ckpt=PATH data=cifar10 split=val num_draws=16   # data.num_val as in the run
    python scripts/evaluate.py ckpt=PATH num_draws=64 importance_weighted=true
    python scripts/evaluate.py ckpt=PATH without_labels=true       # a class-conditional flow: also without labels
    python scripts/evaluate.py ckpt=PATH per_image=scores.csv      # also one row per image
    python scripts/evaluate.py data=image_folder data.source.root=FOLDER 'data.image_shape=[1,28,28]' split=all
    torchrun --nproc-per-node=8 scripts/evaluate.py ckpt=PATH      # eight processes, one per GPU, share the images
"""

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import Batch, ImageData, ImageSet
from flows.arguments import choose, require_positive
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim, draw_log_probs, importance_weighted_bits_per_dim, mean_bits_per_dim
from flows.training import (
    call,
    check_config,
    command_line,
    load_flow,
    pick_device,
    set_tf32,
    to_json,
)
from flows.training.command.track import track
from flows.training.given import check_conditions, check_fits, check_labels, given, on_device
from flows.training.machine.sharing import shared
from flows.training.metric import Average
from flows.training.run.provenance import check_split, describe_data
from flows.whole_file import whole_file
from scripts.files.new_file import check_new_file


@command_line("../conf", "evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate the flow as the config says."""
    check_config(cfg)
    call(evaluate, cfg, made_from=describe_data(cfg.data))


@torch.no_grad()
def evaluate(
    *,
    data: ImageData,
    made_from: str,
    ckpt: str,
    split: str,
    num_draws: int,
    noise_seed: int,
    importance_weighted: bool,
    without_labels: bool,
    per_image: str | None,
    out: str | None,
    device: str,
) -> None:
    """Print the result as JSON, and write it to `out` if given; see conf/evaluate.yaml for the arguments.

    `made_from` says as text from what `data` is made.
    """
    require_positive(num_draws=num_draws)
    check_new_file("out", out, ".json")
    check_new_file("per_image", per_image, ".csv")
    place = pick_device(device)
    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    if without_labels and flow.num_classes is None:
        raise ValueError(f"{ckpt} was trained without labels: leave without_labels out")
    check_fits(ckpt, flow, data)
    check_conditions(flow, data.condition_shape)
    images = images_of(data, split)
    if provenance is not None:
        check_split(provenance.data, made_from, split)
    check_labels(flow, provenance, data)
    with shared() as share:
        flow = flow.to(place)
        loader = data.batches(images, share.rank, share.world_size)
        told = track(on_device(loader, place), f"{split} images", len(loader))
        found = share.gathered(
            [
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
                }
                for batch in told
            ]
        )
        if not share.is_first:
            return

    columns: dict[str, Tensor] = {}
    result: dict[str, Any] = {
        "ckpt": ckpt,
        "split": split,
        "images": len(images),
        "dequantize": flow.dequantize.noise_name,
        "num_draws": num_draws,
        "noise_seed": noise_seed,
    }
    bounds = {"": mean_bits_per_dim}
    if importance_weighted:
        bounds["importance_weighted_"] = importance_weighted_bits_per_dim
    for prefix in found[0]:
        log_probs = torch.cat([batch[prefix] for batch in found], dim=1)
        for kind, bound in bounds.items():
            values = bound(log_probs, flow.num_dims)
            average = Average(values.double(), torch.arange(len(values)))
            columns[f"{prefix}{kind}bits_per_dim"] = values
            result[f"{prefix}{kind}bits_per_dim"] = average.mean
            result[f"{prefix}{kind}standard_error"] = average.standard_error
        if num_draws > 1:
            draws = bits_per_dim(log_probs.double(), flow.num_dims)
            columns[f"{prefix}error_over_draws"] = draws.std(0) / num_draws**0.5
    warn_of_nonfinite(images, columns)
    print(to_json(result))
    if out is not None:
        Path(out).write_text(to_json(result) + "\n")
    if per_image is not None:
        write_rows(Path(per_image), images, columns)


def images_of(data: ImageData, split: str) -> ImageSet:
    """Return the images of a split, or all images of the source."""
    if split == "all":
        return data.whole()
    data.prepare_data()
    data.setup()
    return choose("split", {**data.sets, "all": data.test_set}, split)


def labels(flow: ImageFlow, batch: Batch, without_labels: bool) -> dict[str, Tensor | None]:
    """Return the labels under which images are measured, by the prefix of the names of the results."""
    found = {"": given(flow, batch).get("label")}
    if without_labels:
        found["without_labels_"] = None
        if flow.label_dropout:
            found["dropped_label_"] = flow.dropped_label(batch.images)
    return found


def warn_of_nonfinite(images: ImageSet, columns: dict[str, Tensor]) -> None:
    """Say on standard error how many images have a value that is not finite, and which is the first of them."""
    finite = torch.stack([values.double() for values in columns.values()]).isfinite().all(0)
    rows = (~finite).nonzero().flatten().tolist()
    if rows:
        print(
            f"warning: bits/dim is not finite for {len(rows)} of {len(images)} images, the first is "
            f"{images.name(rows[0]) or f'row {rows[0]}'}: the flow maps them out of range; train it with "
            "model.input_limit or a lower optimizer.lr",
            file=sys.stderr,
        )


def write_rows(path: Path, images: ImageSet, columns: dict[str, Tensor]) -> None:
    """Write one row per image: its row in the set, its file if it has one, its label if it has one, and the results."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "file", "label", *columns])
        for row, (label, *values) in enumerate(zip(images.labels.tolist(), *columns.values(), strict=True)):
            name = images.class_names[label] if images.class_names and label >= 0 else label
            shown = [images.name(row) or "", "" if label < 0 else name, *(f"{value:.6f}" for value in values)]
            writer.writerow([row, *shown])


if __name__ == "__main__":
    main()
