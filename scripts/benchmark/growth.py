"""How time and memory of a training step grow with the number of flow steps, the width and the side of the image."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scripts.benchmark.comparison import Builders
from scripts.benchmark.contestants import OURS, PEERS, built
from scripts.benchmark.memory import out_of_memory, peak_bytes
from scripts.benchmark.timing import best_entry, race
from scripts.benchmark.work import Shape, draw_images, gradients, training_step

BASE = Shape((3, 32, 32), num_levels=2, num_steps=8, hidden_channels=64, batch_size=16)
AXES = {
    "num_steps": ("K", [2, 4, 8, 16, 32]),
    "hidden_channels": ("width", [32, 64, 128, 256]),
    "side": ("side of the image", [28, 64, 128, 256]),
}
FLAT = f"{OURS}, memory_flat"


def measure_growth(
    builders: Builders, rounds: int, device: torch.device, tell: Callable[[str], object]
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Yield, after each axis, the points measured so far for each axis; all other sizes are those of `BASE`.

    A point has the contestant, the size, the seconds per step and the peak bytes. If a point does not fit into memory,
    it has the key "failed" in place of the last two.
    """
    everyone = {
        **{name: builders[name] for name in builders if name in (OURS, *PEERS)},
        FLAT: lambda **model: builders[OURS](**model, memory_flat=True),
    }
    points: dict[str, list[dict[str, Any]]] = {axis: [] for axis in AXES}
    for axis, (label, sizes) in AXES.items():
        for size in sizes:
            tell(f"growth: {label} {size}")
            shape = replace(BASE, **{"image_shape": (3, size, size)} if axis == "side" else {axis: size})
            images = draw_images(shape, device)
            entries, peaks = {}, {}
            for contestant, builder in everyone.items():
                point = {"contestant": contestant, "size": size}
                try:
                    flow = built(builder, shape, images, "channels_last")
                    step = {"channels_last": training_step(flow, images)}
                    entry = best_entry(step, [torch.get_num_threads()], 0.2, device)
                    peaks[contestant] = peak_bytes(gradients(flow, images), device)
                    entries[contestant] = entry
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    points[axis].append({**point, "failed": "out of memory"})
            race(list(entries.values()), rounds, device)
            points[axis] += [
                {
                    "contestant": contestant,
                    "size": size,
                    "seconds": entry.result()["median"],
                    "peak_bytes": peaks[contestant],
                }
                for contestant, entry in entries.items()
            ]
        yield points


def plot_growth(points: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw milliseconds and MiB against each axis, with one line per contestant."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, LogFormatter, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(2, len(AXES), sharex="col")
    for column, (axis, (label, sizes)) in enumerate(AXES.items()):
        for row, (quantity, unit, text) in enumerate(
            [("seconds", 1e-3, "ms per training step"), ("peak_bytes", 2**20, "MiB at the peak")]
        ):
            panel = panels[row, column]
            measured = [point for point in points[axis] if "failed" not in point]
            for contestant in dict.fromkeys(point["contestant"] for point in measured):
                of_contestant = [point for point in measured if point["contestant"] == contestant]
                values = [point[quantity] / unit for point in of_contestant]
                panel.plot([point["size"] for point in of_contestant], values, marker=".", label=contestant)
            panel.set(xscale="log", yscale="log", xlabel=label if row else None, ylabel=None if column else text)
            panel.xaxis.set_major_locator(FixedLocator(sizes))
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_formatter(LogFormatter())
            panel.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
            panel.grid(alpha=0.3)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    figure.savefig(path, dpi=150)
