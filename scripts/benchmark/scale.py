"""Measure how the start of a training grows with the number of images: seconds, and memory of each worker process.

Example:
    python -m scripts.benchmark.scale generated     # makes 1,111,000 small files, about 5 GB, in the folder generated

Each training is a run of train.py with a tiny flow and two workers. What is timed is a second run, from the start of
the command to the end of the first step: the files were checked by the first one. Memory is that which only one worker
holds, and no other process. Files are images of 8x8 pixels, 1,000 to a folder. The npz files are links to one file of
10,000 images of 32x32. "order" is the order of an epoch alone, up to its first batch.
The exponent of seconds compares the two largest sizes, without the seconds of the smallest one: 1 means in proportion
to the number of images. In parentheses are the least and the largest exponent of the single runs; "not resolved" means
that these hardly grow. The exponent of memory is a fit over all sizes: 0 means that it does not grow.
The first row is for comparison: Python that only imports torch.
The folder gets scale.json, scale.md and scale.png. (Linux only.)
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from PIL import Image

from data.order import TrainOrder
from flows.training.command.overrides import ROOT, as_argument
from flows.whole_file import whole_file
from scripts.benchmark.first_batches import BATCHES, FirstBatches
from scripts.benchmark.report import exponent
from scripts.comparison.form import as_markdown

IMPORT, FOLDER, NPZ, ORDER = "import torch", "folder of files", "npz", "order"
SIZES = {
    FOLDER: [1_000, 10_000, 100_000, 1_000_000],
    NPZ: [10_000, 100_000, 1_000_000, 10_000_000],
    ORDER: [1_000, 10_000, 100_000, 1_000_000, 10_000_000],
}
PER_FOLDER = 1_000
PER_NPZ = 10_000
TINY = "model.num_levels=1 model.num_steps=1 model.hidden_channels=8"
RUN = f"{TINY} data.num_workers=2 trainer.max_steps={BATCHES} trainer.max_epochs=-1 test=false"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sizes, and write tables and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the generated images and the results")
    parser.add_argument("--most", type=int, default=10_000_000, help="leave out larger sizes (default: 10000000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each size; the median counts (default: 3)")
    told = parser.parse_args(arguments)
    if told.repeats < 1 or told.most < 1:
        parser.error(f"--repeats and --most are at least 1, got {told.repeats} and {told.most}")
    if (told.folder / "scale.json").exists():
        parser.error(f"{told.folder} holds results already: rename or remove its scale.json, scale.md and scale.png")
    told.folder.mkdir(parents=True, exist_ok=True)
    points = [{"kind": IMPORT, "size": 0, **timed(import_torch, told.repeats)}]
    for kind, sizes in SIZES.items():
        for size in sizes:
            if size <= told.most:
                print(f"{kind}: {size:,}", file=sys.stderr)
                points.append({"kind": kind, "size": size, **measured(kind, size, told.folder, told.repeats)})
                (told.folder / "scale.json").write_text(json.dumps(points, indent=1))
    text = as_markdown(table(points))
    (told.folder / "scale.md").write_text(text + "\n")
    plot(points, told.folder / "scale.png")
    print(text)


def measured(kind: str, size: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Return the median of the seconds, and of the bytes of a worker (None without workers)."""
    if kind == ORDER:
        return timed(lambda: next(iter(TrainOrder(size, 32, 0))), repeats)
    data = folder_of_files(folder.resolve(), size) if kind == FOLDER else npz(folder.resolve(), size)
    start(data)
    starts = [start(data) for _ in range(repeats)]
    found = {name: median(one[name] for one in starts) for name in ("seconds", "worker_bytes")}
    return found | {"each": [one["seconds"] for one in starts]}


def timed(work: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Return the seconds that a work takes each time, and their median."""
    each = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        each.append(time.perf_counter() - begin)
    return {"seconds": median(each), "each": each}


def import_torch() -> None:
    """Start Python, import torch, and end: the least that any program with torch takes."""
    subprocess.run([sys.executable, "-c", "import torch"], check=True)


def start(data: Sequence[str]) -> dict[str, float]:
    """Run train.py on data, and return the seconds until the end of its first step and the bytes of a worker."""
    with tempfile.TemporaryDirectory() as run_dir:
        result = Path(run_dir) / "first_batches.json"
        name = "+callbacks.first_batches"
        callback = [f"{name}._target_={FirstBatches.__module__}.FirstBatches", as_argument(f"{name}.path", result)]
        command = ["train.py", *data, *RUN.split(), as_argument("hydra.run.dir", run_dir), *callback]
        begin = time.time()
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{shlex.join(command)}\n{done.stderr}")
        found = json.loads(result.read_text())
    return {"seconds": found["time"] - begin, "worker_bytes": mean(found["worker_bytes"])}


def folder_of_files(root: Path, size: int) -> list[str]:
    """Make a folder of small images, unless it is there, and return the settings that read it."""
    images = root / f"files_{size}"
    generator = np.random.default_rng(0)
    for number in range(0, size, PER_FOLDER):
        if (images / f"{number}").is_dir():
            continue
        partial = images / f".{number}"
        partial.mkdir(parents=True, exist_ok=True)
        for row in range(number, number + PER_FOLDER):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(partial / f"{row:08}.png")
        partial.rename(images / f"{number}")
    source = [as_argument("data.source.root", images), as_argument("data.source.index_dir", root)]
    return ["data=image_folder", *source, "data.image_shape=[1,8,8]", "data.num_val=64"]


def npz(root: Path, size: int) -> list[str]:
    """Make a folder of links to one npz file, unless it is there, and return the settings that read it."""
    one = root / "images.npz"
    if not one.exists():
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (PER_NPZ, 3 * 32 * 32), dtype=np.uint8)
        with whole_file(one) as partial, partial.open("wb") as file:
            np.savez(file, data=images, labels=generator.integers(1, 1001, PER_NPZ))
    folder = root / f"npz_{size}"
    folder.mkdir(exist_ok=True)
    for name in ("val_data", *(f"train_data_batch_{number + 1}" for number in range(size // PER_NPZ))):
        link = folder / f"{name}.npz"
        if not link.exists():
            link.symlink_to(one)
    return ["data=imagenet32", as_argument("data.source.root", folder), "data.num_val=64"]


def exponent_of_seconds(points: Sequence[dict[str, Any]]) -> str:
    """Return the slope of log seconds over log size between the two largest sizes, of medians and of single runs.

    The seconds of the smallest size are subtracted: they do not come from the number of images.
    """
    first, *_, last_but_one, last = points
    ratio = math.log(last["size"] / last_but_one["size"])

    def slope(start: float, lower: float, upper: float) -> float:
        return math.log((upper - start) / (lower - start)) / ratio if start < lower < upper else math.nan

    slopes = [slope(*each) for each in product(first["each"], last_but_one["each"], last["each"])]
    if not all(map(math.isfinite, slopes)):
        return "not resolved"
    between = f" ({min(slopes):.2f} to {max(slopes):.2f})" if len(slopes) > 1 else ""
    return f"{slope(first['seconds'], last_but_one['seconds'], last['seconds']):.2f}{between}"


def exponent_of_memory(points: Sequence[dict[str, Any]]) -> str:
    """Return the slope of log bytes over log size by least squares; an empty text without workers."""
    if "worker_bytes" not in points[0]:
        return ""
    return f"{exponent([point['size'] for point in points], [point['worker_bytes'] for point in points]):.2f}"


def table(points: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return one row per kind and size, and the exponents in the last row of each kind."""
    measured = ["seconds to the first step", "MiB of each worker", "exponent of seconds", "exponent of MiB"]
    rows = [["images in", "images", *measured]]
    for kind in (IMPORT, *SIZES):
        of_kind = [point for point in points if point["kind"] == kind]
        for point in of_kind:
            memory = f"{point['worker_bytes'] / 2**20:.0f}" if "worker_bytes" in point else ""
            fits = point is of_kind[-1] and len(of_kind) > 2
            exponents = [exponent_of_seconds(of_kind), exponent_of_memory(of_kind)] if fits else ["", ""]
            cells = [f"{point['size']:,}" if point["size"] else "", f"{point['seconds']:.3g}", memory]
            rows.append([kind, *cells, *exponents])
    return rows


def plot(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw seconds and MiB against the number of images, with one line per kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind in SIZES:
        of_kind = [point for point in points if point["kind"] == kind]
        left.plot([point["size"] for point in of_kind], [point["seconds"] for point in of_kind], marker=".", label=kind)
        if workers := [(point["size"], point["worker_bytes"] / 2**20) for point in of_kind if "worker_bytes" in point]:
            right.plot(*zip(*workers, strict=True), marker=".", label=kind)
    left.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds to the first step")
    right.set(xscale="log", xlabel="images", ylabel="MiB that each worker adds", ylim=(0, None))
    left.legend()
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
