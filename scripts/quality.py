"""Measure how good the samples of a flow look: distances to real images over temperature and guidance, with pictures.

Examples:
    python scripts/quality.py ckpt=outputs/mine/best.safetensors 'temperature=[0.7,0.8,0.9,1]'
    python scripts/quality.py ckpt=PATH split=test temperature=0.8 'sample_seeds=[0,1,2]'     # a final figure
    python scripts/quality.py ckpt=PATH data=cifar10 features=inception                       # FID
    python scripts/quality.py ckpt=PATH temperature=1 'guidance=[0,0.5,1,2]'      # trained with label dropout
    torchrun --nproc-per-node=8 scripts/quality.py ckpt=PATH      # eight processes, one per GPU, share the work

The folder gets a table (quality.md), all figures (quality.json) and a plot (quality.png). It also gets samples at the
best temperature (best.png), and samples with their nearest training images (nearest.png). An interrupted command goes
on if it is given again. Choose settings by validation images (split=val, the default). Read the test images once, for
the final figure.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import ImageData, ImageSet, Subset
from data.order import shuffled
from flows import Sampler
from flows.arguments import choose, require_positive
from flows.check_inputs import check_seeds
from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow
from flows.training import (
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
from flows.training.given import check_fits, check_labels, on_device
from flows.training.knobs import all_knobs
from flows.training.machine.sharing import Share, shared
from flows.training.quality.distances import check_enough, check_installed, distances
from flows.training.quality.features import Classifier, Features, classifier_of, describe_features, described_by, ready
from flows.training.quality.nearest import nearest, pixels
from flows.training.quality.report import markdown, means, plot
from flows.training.quality.samples import (
    Described,
    accuracy,
    class_frequencies,
    described_samples,
    drawn,
    in_batches,
    joined,
)
from flows.training.quality.so_far import SoFar, read_so_far, write_so_far
from flows.training.run.lock import hold_out
from flows.training.run.provenance import check_split, describe_data
from flows.whole_file import whole_file
from scripts.files.new_folder import make_folder


@command_line("../conf", "quality")
def main(cfg: DictConfig) -> None:
    """Measure the flow as the config says."""
    check_config(cfg)
    made_from = {"data": describe_data(cfg.data), "features": OmegaConf.to_container(cfg.features, resolve=True)}
    call(measure, cfg, made_from=made_from)


@torch.no_grad()
def measure(
    *,
    data: ImageData,
    features: Features,
    made_from: dict[str, Any],
    ckpt: str,
    temperature: float | Sequence[float],
    guidance: float | Sequence[float],
    level_temperature: Sequence[float] | None,
    num_samples: int,
    sample_seeds: Sequence[int],
    split: str,
    num_columns: int,
    out: str,
    parallel: bool,
    batch_size: int,
    device: str,
    seed: int,
) -> None:
    """Write tables and pictures into `out`, and print the table; see conf/quality.yaml for the arguments.

    `made_from` says as plain data from what `data` and `features` are made.
    """
    require_positive(num_samples=num_samples, num_columns=num_columns, batch_size=batch_size)
    settings = all_knobs(temperature, guidance, level_temperature)
    if not sample_seeds or len({*sample_seeds}) < len(sample_seeds):
        raise ValueError(f"sample_seeds is a list of whole numbers that all differ, got {sample_seeds}")
    check_seeds([end for k in sample_seeds for end in (k * num_samples, (k + 1) * num_samples - 1)])
    folder, place = Path(out), pick_device(device)
    if (folder / "quality.json").exists():
        raise FileExistsError(f"{folder} holds figures already: give another folder by out=, or remove it")
    check_installed("torch_fidelity")
    check_enough(num_samples, features.num_features, "samples")
    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    if flow.condition_shape is not None:
        raise ValueError(f"{ckpt} is a flow that is given images: scripts/superres.py measures it")
    for knobs in settings:
        flow.check_drawing(knobs.guidance, knobs.level_temperature)
    check_fits(ckpt, flow, data)
    features.check(flow.image_shape)
    data.prepare_data()
    data.setup()
    check_labels(flow, provenance, data)
    real_set = choose("split", {"val": data.val_set, "test": data.test_set}, split)
    train_set = data.sets["train"]
    some = shuffled(len(train_set), "floor", seed)[:num_samples].sort().values
    check_enough(len(real_set), features.num_features, f"{split} images")
    check_enough(len(some), features.num_features, "training images")
    if provenance is not None:
        check_split(provenance.data, made_from["data"], "train")

    unfinished = folder / "quality.partial.json"
    depends_on = {**made_from, "flow": fingerprint(flow), "split": split, "num_samples": num_samples}
    classifier, frequencies = classifier_of(features, data), class_frequencies(train_set.labels, flow.num_classes)
    with ExitStack() as while_measuring:
        with shared() as share:
            so_far: SoFar = {}
            if share.is_first:
                make_folder(folder)
                while_measuring.enter_context(hold_out(folder))
                so_far = read_so_far(unfinished, depends_on)
            (so_far,) = share.gathered([so_far] if share.is_first else [])
            sampler = Sampler(flow.to(place), parallel)
            features = ready(features, place)
            real = described(real_set, data, flow, features, share, f"{split} images")
            floor = described(Subset(train_set, some), data, flow, features, share, "training images")
            missing = [(knobs, k) for knobs in settings for k in sample_seeds if (knobs, k) not in so_far]
            for knobs, k in track(missing, "sets of samples"):
                seeds = range(k * num_samples, (k + 1) * num_samples)
                how: Any = {"knobs": knobs, "frequencies": frequencies, "share": share}
                samples = described_samples(sampler, features, seeds, batch_size, **how)
                if share.is_first:
                    so_far[knobs, k] = figures(samples, real, classifier)
                    write_so_far(unfinished, depends_on, so_far)
        if not share.is_first:
            return

        floor_row = means([figures(floor, real, classifier) | accuracy(real, classifier)])
        rows = {knobs: means([so_far[knobs, k] for k in sample_seeds]) | knobs._asdict() for knobs in settings}
        best = min(rows, key=lambda knobs: rows[knobs]["fd"])
        first = sample_seeds[0] * num_samples
        parts = in_batches(range(first, first + min(num_columns**2, num_samples)), batch_size)
        shown = torch.cat([drawn(sampler, part, best, frequencies)[0].cpu() for part in parts])
        gap, usual_gap = draw_pictures(shown, num_columns, flow, real_set, data, folder)
        result = {
            "ckpt": ckpt,
            "data": made_from["data"],
            "num_bits": flow.dequantize.num_bits,
            "features": describe_features(features),
            "distance": features.distance,
            "split": split,
            "real_images": len(real.features),
            "training_images": len(floor.features),
            "samples": num_samples,
            "sample_seeds": list(sample_seeds),
            "classes_as_in_training": frequencies is not None,
            "best": best._asdict(),
            "nearest_training_image": {"samples": gap, f"{split} images": usual_gap},
            "rows": [floor_row | {"temperature": None}, *rows.values()],
        }
        table = markdown(result)
        (folder / "quality.md").write_text(table)
        plot(result, folder / "quality.png")
        with whole_file(folder / "quality.json") as partial:
            partial.write_text(to_json(result) + "\n")
        unfinished.unlink(missing_ok=True)
    print(table)
    print(f"{folder}/best.png: samples at {best}, the best by {features.distance}")
    print(f"{folder}/nearest.png: samples above the training images that are nearest to them")


def draw_pictures(
    samples: Tensor, num_columns: int, flow: ImageFlow, real: ImageSet, data: ImageData, folder: Path
) -> tuple[float, float]:
    """Write pictures of samples, and of some with the nearest training images.

    Returns:
        The mean distance of these samples, and of as many real images, to the nearest training image.
    """
    train_set = data.sets["train"]

    def in_its_levels(images: Tensor) -> Tensor:
        return pixels(flow.dequantize.without_low_bits(images))

    search: Any = {"batch_size": data.eval_batch_size, "described": in_its_levels}
    rows, gaps = nearest(samples[:num_columns], train_set, **search)
    neighbours = train_set[rows.flatten().tolist()].images
    _, usual = nearest(real[list(range(min(num_columns, len(real))))].images, train_set, **search)
    save_png(image_grid(samples, num_columns), folder / "best.png")
    save_png(image_grid(torch.cat([samples[:num_columns], neighbours]), num_columns), folder / "nearest.png")
    return gaps.mean().item(), usual.mean().item()


def described(
    images: ImageSet, data: ImageData, flow: ImageFlow, features: Features, share: Share, name: str
) -> Described:
    """Return the features and labels of a set of real images, in the grey levels of the flow."""
    loader = data.batches(images, share.rank, share.world_size)
    parts = []
    for batch in track(on_device(loader, next(flow.parameters()).device), name, len(loader)):
        grey = flow.dequantize.without_low_bits(batch.images)
        parts.append(Described(described_by(features, grey), batch.labels.cpu()))
    return joined(share.gathered(parts))


def figures(images: Described, real: Described, classifier: Classifier | None) -> dict[str, Any]:
    """Return the figures of a set of images."""
    return distances(images.features, real.features)._asdict() | accuracy(images, classifier)


if __name__ == "__main__":
    main()
