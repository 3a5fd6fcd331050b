"""Measure how well a flow enlarges images: bits per dimension, the distance of samples from small images, a picture.

Examples:
    python scripts/superres.py ckpt=outputs/large/best.safetensors small_ckpt=outputs/small/best.safetensors
    python scripts/superres.py ckpt=PATH small_ckpt=PATH data=digits split=val 'temperature=[0.5,0.9]'
"""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import Batch, ImageData
from flows import Sampler
from flows.arguments import choose, require_positive
from flows.check_inputs import check_several, check_temperature
from flows.image_flow import ImageFlow
from flows.likelihood import mean_bits_per_dim
from flows.training import (
    ImageAverage,
    call,
    check_config,
    command_line,
    image_grid,
    load_flow,
    pick_device,
    save_png,
    set_tf32,
    to_json,
)
from flows.training.command.track import track
from flows.training.given import (
    check_classes,
    check_conditions,
    check_fits,
    check_labels,
    given,
    given_log_probs,
    on_device,
)
from flows.training.grid import enlarged
from flows.training.run.provenance import check_split, describe_data
from scripts.files.new_folder import make_folder


@command_line("../conf", "superres")
def main(cfg: DictConfig) -> None:
    """Measure the flows as the config says."""
    check_config(cfg)
    call(measure, cfg, made_from=describe_data(cfg.data))


@torch.no_grad()
def measure(
    *,
    data: ImageData,
    made_from: str,
    ckpt: str,
    small_ckpt: str,
    split: str,
    num_draws: int,
    noise_seed: int,
    temperature: float | Sequence[float],
    num_samples: int,
    num_columns: int,
    out: str,
    device: str,
) -> None:
    """Print the result as JSON, and write it and a grid into `out`; see conf/superres.yaml for the arguments.

    `made_from` says as text from what `data` is made.
    """
    require_positive(num_draws=num_draws, num_samples=num_samples, num_columns=num_columns)
    temperatures = check_several("temperature", temperature, check_temperature)
    folder = Path(out)
    for name in ("superres.json", "grid.png"):
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} is there already: give another folder by out=, or remove it")
    set_tf32(False)
    place = pick_device(device)
    (flow, provenance), (small_flow, of_small) = (load_flow(path, with_provenance=True) for path in (ckpt, small_ckpt))
    for known in filter(None, (provenance, of_small)):
        check_split(known.data, made_from, split)
    flow, small_flow = flow.to(place), small_flow.to(place)
    check_shapes(flow, small_flow, data)
    data.prepare_data()
    data.setup()
    check_labels(flow, provenance, data)
    check_labels(small_flow, of_small, data)
    loader = data.batches(choose("split", data.sets, split))
    make_folder(folder)

    given_small, small, total = ImageAverage(), ImageAverage(), ImageAverage()
    for batch in track(on_device(loader, place), f"{split} images", len(loader)):
        large_bits = mean_bits_per_dim(given_log_probs(flow, batch, num_draws, noise_seed), flow.num_dims)
        small_batch = batch._replace(images=condition_of(batch), condition=None)
        small_log_probs = given_log_probs(small_flow, small_batch, num_draws, noise_seed)
        small_bits = mean_bits_per_dim(small_log_probs, small_flow.num_dims)
        given_small.update(large_bits, batch.index)
        small.update(small_bits, batch.index)
        total.update(large_bits + small_bits * small_flow.num_dims / flow.num_dims, batch.index)
    result: dict[str, Any] = {
        "ckpt": ckpt,
        "small_ckpt": small_ckpt,
        "split": split,
        "num_draws": num_draws,
        "noise_seed": noise_seed,
        "images": total.compute().num_images,
    }
    for name, average in ("given_small", given_small), ("small", small), ("total", total):
        found = average.compute()
        result |= {f"{name}_bits_per_dim": found.mean, f"{name}_standard_error": found.standard_error}

    batches = [*islice(on_device(loader, place), -(-num_samples // data.eval_batch_size))]
    images = flow.dequantize.without_low_bits(torch.cat([batch.images for batch in batches])[:num_samples])
    conditions = torch.cat([condition_of(batch) for batch in batches])[:num_samples]
    sampler, rows, errors = Sampler(flow), [enlarged(conditions, flow.image_shape)], {}
    for one in temperatures:
        samples = sampled(sampler, batches, one)[:num_samples]
        rows.append(samples)
        errors[str(one)] = rms_error(samples, conditions)
    rows.append(images)
    num_columns = min(num_columns, len(images))
    result |= {"samples": len(images), "rms_error": errors, "rms_error_of_real_images": rms_error(images, conditions)}
    print(to_json(result))
    (folder / "superres.json").write_text(to_json(result) + "\n")
    save_png(image_grid(torch.cat([row[:num_columns] for row in rows]), num_columns), folder / "grid.png")


def check_shapes(flow: ImageFlow, small_flow: ImageFlow, data: ImageData) -> None:
    """Check that one flow is for the images of the data, and that the other flow is for their small versions.

    Raises:
        ValueError: if a flow is not; the message says which one.
    """
    if flow.condition_shape is None:
        raise ValueError("ckpt is a flow that is given no images: train one by experiment=fashion_mnist_superres")
    check_fits("ckpt", flow, data)
    check_conditions(flow, data.condition_shape)
    if small_flow.image_shape != data.condition_shape or small_flow.condition_shape is not None:
        raise ValueError(
            f"small_ckpt must be an unconditional model of the small images, {data.condition_shape} (C, H, W), but it "
            f"is one of {small_flow.image_shape}: train it on small images, as experiment=fashion_mnist_7x7 does"
        )
    check_classes("small_ckpt", small_flow, data)


def condition_of(batch: Batch) -> Tensor:
    """Return the small versions of the images of a batch."""
    assert batch.condition is not None
    return batch.condition


def sampled(sampler: Sampler, batches: Sequence[Batch], temperature: float) -> Tensor:
    """Return one sample per image of the batches, given the condition and label of this image."""
    told = track(batches, f"samples at temperature {temperature:g}")
    return torch.cat(
        [sampler.sample(batch.index.tolist(), temperature, **given(sampler.flow, batch)) for batch in told]
    )


def rms_error(images: Tensor, conditions: Tensor) -> float:
    """Return the root mean square error, in grey levels, between the box means of images and the small images."""
    means = F.adaptive_avg_pool2d(images.double(), (conditions.shape[2], conditions.shape[3]))
    return (means - conditions).square().mean().sqrt().item()


if __name__ == "__main__":
    main()
