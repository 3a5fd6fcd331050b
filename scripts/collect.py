"""Make one table and plots from a folder of runs, such as the folder of a sweep.

Example:
    python scripts/collect.py multirun/mine      # writes collected.csv, collected.md and plots into that folder

The table has one row per run, with the settings in which the runs differ. The run with the best validation bits/dim
comes first. Runs that failed or have not ended come last. The plots show bits/dim against each of these settings, and
against time.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from flows.training import Run, find_runs, print_whatever_comes

VAL, TEST, FD = "val bits/dim", "test bits/dim", "val FD"
FEW = 8
"""If a setting has at most this many values, each value gets its own tick."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect the folder that the command line names."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a sweep, or any folder with runs in it")
    folder = parser.parse_args(arguments).folder
    runs = sorted(find_runs(folder), key=rank)
    if not runs:
        sys.exit(f"error: no run is in {folder}: give the folder of a sweep, as in multirun/RUN_ID")
    swept = swept_settings(runs)
    rows = table(runs, swept)
    with (folder / "collected.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = markdown(rows)
    (folder / "collected.md").write_text(text, encoding="utf-8")
    print(text)
    for path in plots(runs, swept, folder):
        print(path)


def rank(run: Run) -> tuple[bool, float]:
    """Return a key that sorts the runs of the table.

    Complete runs come first, sorted by validation bits/dim. A run without a finite result comes last.
    """
    bits = run.summary.get("val_bits_per_dim")
    return not run.is_complete, math.inf if bits is None else bits


def swept_settings(runs: list[Run]) -> list[str]:
    """Return the settings in which runs differ. Of settings that always change together, return one."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    columns = {key: tuple(str(run.settings.get(key)) for run in runs) for key in keys}
    first_with: dict[tuple[str, ...], str] = {}
    for key in sorted(keys, key=lambda key: key.count(".")):
        values = columns[key]
        if len(set(values)) > 1:
            first_with.setdefault(values, key)
    return sorted(first_with.values())


def table(runs: list[Run], swept: list[str]) -> list[dict[str, str]]:
    """Return one row per run, with its columns by name."""

    def shown(run: Run, key: str, form: str) -> str:
        value = run.summary.get(key)
        return format(value, form) if isinstance(value, int | float) and run.is_complete else ""

    return [
        {
            "run": run.name,
            **{key: str(run.settings.get(key, "")) for key in swept},
            VAL: shown(run, "val_bits_per_dim", ".4f"),
            TEST: shown(run, "test_bits_per_dim", ".4f"),
            "standard error": shown(run, "test_standard_error", ".4f"),
            FD: shown(run, "val_fd", ".2f"),
            "parameters": shown(run, "parameters", "d"),
            "steps": shown(run, "steps", "d"),
            "images/s": shown(run, "images_per_second", ".1f"),
            "seconds": shown(run, "wall_seconds", ".0f"),
            "status": run.status,
            "problem": run.problem,
        }
        for run in runs
    ]


def markdown(rows: list[dict[str, str]]) -> str:
    """Return a table as Markdown, followed by a line that says how to read it."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name].replace("|", "\\|") for name in names] for row in rows)]
    done = sum(row["status"] == "completed" for row in rows)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{done} of {len(rows)} runs are complete, the best validation bits/dim first: select by that.\n"


def plots(runs: list[Run], swept: list[str], folder: Path) -> list[Path]:
    """Draw the plots and return their files.

    They show bits/dim of the complete runs against each swept setting, and of all runs against time.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        sys.exit("error: the tables are written, but plots need matplotlib: pip install matplotlib")
    matplotlib.use("agg")
    complete = [run for run in runs if run.is_complete]
    paths = [plot_setting(complete, key, folder / f"by-{key}.png") for key in swept if complete]
    if any(run.curve for run in runs):
        paths.append(plot_time(runs, swept, folder / "by-time.png"))
    return paths


def plot_setting(runs: list[Run], key: str, path: Path) -> Path:
    """Draw validation and test bits/dim of the runs against one setting."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
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
        measured = [math.nan if run.summary.get(column) is None else run.summary[column] for run in runs]
        if not all(map(math.isnan, measured)):
            axes.plot(numbers, measured, marker, label=name, alpha=0.8)
    best = min(range(len(runs)), key=lambda row: rank(runs[row]))
    axes.axvline(numbers[best], color="0.8", zorder=0)
    axes.set(xlabel=key, ylabel="bits/dim", title="one point per run; the line marks the best run by validation")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def is_number(value: Any) -> TypeGuard[float | str]:
    """Return whether a setting is a number. `1e-3`, which YAML reads as text, counts as a number."""
    try:
        return math.isfinite(float(value)) and not isinstance(value, bool)
    except (TypeError, ValueError):
        return False


def plot_time(runs: list[Run], swept: list[str], path: Path) -> Path:
    """Draw validation bits/dim against seconds of training."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    shown = [run for run in runs if run.curve]
    colours = plt.get_cmap("viridis")
    for place, run in enumerate(shown):
        settings = ", ".join(f"{key.rpartition('.')[2]}={brief(run.settings.get(key))}" for key in swept)
        label = f"{settings or run.name}" if run.is_complete else f"{settings or run.name} ({run.status})"
        style = "-" if run.is_complete else ":"
        colour = colours(0.9 * place / max(1, len(shown) - 1))
        axes.plot(
            [point.seconds for point in run.curve],
            [point.bits_per_dim for point in run.curve],
            style,
            marker=".",
            color=colour,
            label=label,
        )
    axes.set(xlabel="seconds of training, validation left out", ylabel=VAL)
    if len(shown) <= 20:
        figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def brief(value: Any) -> str:
    """Return a setting with few digits."""
    return f"{float(value):.3g}" if is_number(value) else str(value)


if __name__ == "__main__":
    print_whatever_comes()
    main()
