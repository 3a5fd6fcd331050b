"""Bits/dim against each setting, and against time."""

import math
from collections.abc import Sequence
from pathlib import Path

from flows.training import Run
from scripts.comparison.groups import Group
from scripts.comparison.table import TEST, VAL, brief, is_number, rank

FEW = 8
"""If a setting has at most this many values, each value gets its own tick."""

MOST_NAMED = 20
"""If there are more groups of curves, they are not named."""


def plots(groups: Sequence[Group], swept: Sequence[str], folder: Path) -> list[Path]:
    """Draw the plots and return their files.

    They show bits/dim of the complete runs against each swept setting, and of all runs against time.
    """
    complete = sorted((run for group in groups for run in group.complete), key=rank)
    paths = [plot_setting(complete, key, folder / f"by-{key}.png") for key in swept if complete]
    if any(run.curve for group in groups for run in group.runs):
        paths.append(plot_time(groups, folder / "by-time.png"))
    return paths


def plot_setting(runs: Sequence[Run], key: str, path: Path) -> Path:
    """Draw validation and test bits/dim of the runs against one setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    values = [run.settings.get(key) for run in runs]
    numbers = [float(value) for value in values if is_number(value)]
    if len(numbers) < len(values):
        order = sorted({str(value) for value in values})
        numbers = [float(order.index(str(value))) for value in values]
        axes.set_xticks(range(len(order)), order)
        axes.set_xlim(-0.5, len(order) - 0.5)
    else:
        if min(numbers) > 0 and max(numbers) >= 3 * min(numbers):
            axes.set_xscale("log")
        if len(set(numbers)) <= FEW:
            axes.set_xticks(sorted(set(numbers)), [brief(number) for number in sorted(set(numbers))])
            axes.minorticks_off()
    for name, column, marker in (VAL, "val_bits_per_dim", "o"), (TEST, "test_bits_per_dim", "x"):
        measured = [math.nan if (value := run.result(column)) is None else value for run in runs]
        if not all(map(math.isnan, measured)):
            axes.plot(numbers, measured, marker, label=name, alpha=0.8)
    best = min(range(len(runs)), key=lambda row: rank(runs[row]))
    axes.axvline(numbers[best], color="0.8", zorder=0)
    axes.set(xlabel=key, ylabel="bits/dim", title="one point per run; the line marks the best run by validation")
    axes.legend()
    figure.savefig(path, dpi=150)
    return path


def plot_time(groups: Sequence[Group], path: Path) -> Path:
    """Draw bits/dim against seconds of training: validation, and the mean over the training steps before it."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    shown = [group for group in groups if any(run.curve for run in group.runs)]
    colours = colormaps["viridis"]
    for place, group in enumerate(shown):
        colour = colours(0.9 * place / max(1, len(shown) - 1))
        name = group.name or group.runs[0].name
        for run in group.runs:
            seconds = [point.seconds for point in run.curve]
            label = name if run.is_complete else f"{name} ({run.status})"
            style = "-" if run.is_complete else ":"
            validation = [point.bits_per_dim for point in run.curve]
            axes.plot(seconds, validation, style, marker=".", color=colour, label=label)
            axes.plot(seconds, [point.train_bits_per_dim for point in run.curve], "--", color=colour, alpha=0.4)
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axes.set(xlabel="seconds of training, validation left out", ylabel="bits/dim: validation —, training - -")
    if len(named) <= MOST_NAMED:
        figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    return path
