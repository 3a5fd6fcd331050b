"""Tell images of other kinds from those that a flow knows, by several scores. All scores are high for other images.

Examples:
    python scripts/score.py against=digits_28x28                    # clothes against digits, with a flow in the box
    python scripts/score.py ckpt=PATH data=photos against=image_folder against.source.root=FOLDER
    python scripts/score.py against=fashion_mnist_inverted background=outputs/background/best.safetensors

The scores are bits/dim, typicality, bits/dim minus those of a lossless codec, the likelihood ratio with a background
flow, the density of states, and the codecs alone. docs/uses.md says what they are.
"""

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import ImageData, ImageSet, Subset
from data.order import shuffled
from flows.arguments import choose, require_positive
from flows.image_flow import ImageFlow
from flows.noise import uniform_noise
from flows.outside import DensityOfStates, Statistics, atypicality, statistics
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
from flows.training.given import on_device
from flows.training.run.provenance import check_split, describe_data
from scripts.codecs import codecs, size
from scripts.comparison.detection import Detection, detection
from scripts.comparison.form import as_markdown
from scripts.files.new_folder import check_new_folder, new_folder

SIDES = "inside", "outside"


@command_line("../conf", "score")
def main(cfg: DictConfig) -> None:
    """Score the images as the config says."""
    check_config(cfg)
    call(score, cfg, made_from=describe_data(cfg.data))


def score(
    *,
    data: ImageData,
    against: ImageData,
    made_from: str,
    ckpt: str,
    background: str | None,
    split: str,
    num_images: int,
    num_train: int,
    num_bootstrap: int,
    noise_seed: int,
    out: str,
    device: str,
) -> None:
    """Write `scores.csv`, `table.md`, `table.json` and `histograms.png` into `out`, and print the table.

    `made_from` says as text from what `data` is made.
    """
    require_positive(num_images=num_images, num_train=num_train, num_bootstrap=num_bootstrap)
    check_new_folder(out)
    place = pick_device(device)
    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    if provenance is not None:
        check_split(provenance.data, made_from, split)
    flow = flow.to(place)
    other = None if background is None else load_flow(background).to(place)
    for one in filter(None, (flow, other)):
        if one.condition_shape is not None:
            raise ValueError("a flow that is given images cannot score images alone: take another one")
        for images in (data, against):
            if images.image_shape != one.image_shape:
                raise ValueError(
                    f"the flow is a model of {one.image_shape} images (C, H, W), and {type(images.source).__name__} "
                    f"has {images.image_shape}: give images of that shape, as data.Changed and data.Resize make them"
                )
    for images in (data, against):
        images.prepare_data()
        images.setup()
    sets = {"train": some(data.sets["train"], num_train, noise_seed)}
    for side, images in zip(SIDES, (data, against), strict=True):
        of_split = choose("split", {"val": images.val_set, "test": images.test_set}, split)
        sets[side] = some(of_split, num_images, noise_seed)
    found = {name: described(flow, data, images, noise_seed, place, name) for name, images in sets.items()}
    density = DensityOfStates(found["train"])
    scores: dict[str, dict[str, Tensor]] = {}
    for side in SIDES:
        it, columns = found[side], {}
        bits = it.bits.double().cpu()
        columns["bits/dim"] = bits
        columns["typicality"] = atypicality(bits, found["train"].bits.double().cpu())
        columns["density of states"] = density.score(it)
        if other is not None:
            columns["likelihood ratio"] = bits - described(other, data, sets[side], noise_seed, place, side).bits.cpu()
        of_codecs = {name: codec_bits(sets[side], name, side) for name in codecs()}
        columns["bits/dim minus the best codec"] = bits - torch.stack([*of_codecs.values()]).amin(0)
        columns |= {f"{name} alone": bits for name, bits in of_codecs.items()}
        scores[side] = columns
    rows = {
        name: detection(scores["inside"][name], scores["outside"][name], num_bootstrap) for name in scores["inside"]
    }
    folder = new_folder(out)
    write_scores(folder / "scores.csv", sets, scores)
    table = markdown(rows, {side: len(sets[side]) for side in SIDES})
    (folder / "table.md").write_text(table, encoding="utf-8")
    (folder / "table.json").write_text(to_json({name: row._asdict() for name, row in rows.items()}) + "\n")
    plot(scores, folder / "histograms.png")
    print(table)


def some(images: ImageSet, count: int, seed: int) -> Subset:
    """Return images of a set that are chosen at random: the first ones may be of one class, or from one photograph."""
    return Subset(images, shuffled(len(images), "score", seed)[:count].sort().values)


def described(
    flow: ImageFlow, data: ImageData, images: ImageSet, noise_seed: int, place: torch.device, name: str
) -> Statistics:
    """Return what a flow says about a set of images.

    Raises:
        ValueError: if it says nothing finite about one of them.
    """
    loader = data.batches(images)
    told = track(on_device(loader, place), f"{name} images", len(loader))
    parts = [
        statistics(flow, batch.images, uniform_noise(batch.index, flow.image_shape, seed=noise_seed, stream=0))
        for batch in told
    ]
    found = Statistics(*(torch.cat(values) for values in zip(*parts, strict=True)))
    finite = found.bits.isfinite() & found.log_det.isfinite() & found.squares.isfinite().all(1)
    if rows := (~finite).nonzero().flatten().tolist():
        raise ValueError(
            f"a flow says nothing finite about {len(rows)} of {len(images)} {name} images, the first is "
            f"{images.name(rows[0]) or f'row {rows[0]}'}: it maps them out of range; leave them out, or train it with "
            "model.input_limit or a lower optimizer.lr"
        )
    return found


def codec_bits(images: ImageSet, codec: str, name: str) -> Tensor:
    """Return the bits/dim that a lossless codec needs for each image, minus those of the smallest file: its headers."""
    channels, height, width = images.image_shape
    header = size(torch.zeros(channels, 1, 1, dtype=torch.uint8), codec)
    told = track(range(len(images)), f"{codec}, {name} images")
    sizes = [max(0, size(images[[row]].images[0], codec) - header) for row in told]
    return torch.tensor(sizes, dtype=torch.double) * 8 / (channels * height * width)


def write_scores(path: Path, sets: dict[str, Subset], scores: dict[str, dict[str, Tensor]]) -> None:
    """Write one row per image."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["side", "index", "file", *scores["inside"]])
        for side, columns in scores.items():
            for row, values in enumerate(zip(*columns.values(), strict=True)):
                name = sets[side].name(row) or ""
                writer.writerow([side, int(sets[side].rows[row]), name, *(f"{value:.6g}" for value in values)])


def markdown(rows: dict[str, Detection], counts: dict[str, int]) -> str:
    """Return the table, the best score first."""
    best_first = sorted(rows.items(), key=lambda item: -item[1].auroc)
    lines = [["score", "AUROC", "AUPRC"]]
    for name, row in best_first:
        lines.append([name, shown(row.auroc, row.auroc_interval), shown(row.auprc, row.auprc_interval)])
    return (
        f"{as_markdown(lines)}\n\n{counts['inside']:,} images inside, {counts['outside']:,} outside; in brackets the "
        "95% interval over images drawn with replacement. Every score is high for images from outside: an AUROC below "
        "0.5 means that the score takes them for the more likely ones.\n"
    )


def shown(area: float, interval: tuple[float, float]) -> str:
    """Return an area with its interval."""
    return f"{area:.3f} ({interval[0]:.3f}, {interval[1]:.3f})"


def plot(scores: dict[str, dict[str, Tensor]], path: Path) -> None:
    """Draw a histogram of each score."""
    from matplotlib.figure import Figure

    names = [*scores["inside"]]
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, names, strict=False):
        both = torch.cat([scores[side][name] for side in SIDES])
        low, high = torch.quantile(both, torch.tensor([0.005, 0.995], dtype=both.dtype)).tolist()
        for side in SIDES:
            ax.hist(
                scores[side][name].clamp(low, high).numpy(), 50, range=(low, high), alpha=0.6, density=True, label=side
            )
        ax.set(title=name, yticks=[])
    axes.flat[0].legend()
    figure.savefig(path, dpi=120)


def with_group(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which `against=NAME` chooses a data set, as Hydra writes it."""
    return [re.sub(r"^against=(?=\w+$)", "data@against=", argument) for argument in arguments]


if __name__ == "__main__":
    sys.argv = with_group(sys.argv)
    main()
