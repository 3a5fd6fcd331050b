"""Turn a folder of runs, such as a sweep's, into one table and plots.

Example:
    python scripts/collect.py multirun/mine      # writes collected.csv, collected.md and plots into that folder

The table has a row a run, the best validation bits/dim first, with the settings in which the runs differ; runs that
failed or have not ended stand below. Plots show bits/dim against each such setting and against time.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

VAL, TEST = "val bits/dim", "test bits/dim"
NOT_SETTINGS = ("run_id", "resume", "run_dir", "hydra.", "logger", "sweep", "cluster")
"""Beginnings of keys that do not tell runs apart."""
FEW = 8
"""Values of a setting up to which each has its tick."""


@dataclass
class Run:
    """What is known of a run from its folder."""

    name: str
    status: str
    problem: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Training seconds and validation bits/dim."""

    @property
    def is_complete(self) -> bool:
        """Whether it has its results."""
        return self.status == "completed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect the folder that the command line names."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of a sweep, or any folder with runs in it")
    folder = parser.parse_args(arguments).folder
    runs = sorted(find_runs(folder), key=lambda run: (not run.is_complete, run.summary.get("val_bits_per_dim", 0.0)))
    if not runs:
        sys.exit(f"error: no run is in {folder}: give the folder of a sweep, as in multirun/RUN_ID")
    swept = swept_settings(runs)
    rows = table(runs, swept)
    with (folder / "collected.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = markdown(rows)
    (folder / "collected.md").write_text(text)
    print(text)
    for path in plots(runs, swept, folder):
        print(path)


def find_runs(folder: Path) -> Iterator[Run]:
    """Read all runs in a folder, at any depth."""
    marks = sorted({*folder.rglob("summary.json"), *folder.rglob(".hydra"), *folder.rglob("config.yaml")})
    places = {path.parent for path in marks if ".hydra" not in path.parent.parts and ".submitit" not in path.parts}
    for place in sorted(places):
        yield read_run(place, str(place.relative_to(folder)) if place != folder else folder.absolute().name)


def read_run(folder: Path, name: str) -> Run:
    """Read one run."""
    summary, problem = {}, ""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        status, problem = summary["status"], summary.get("error", "")
    except FileNotFoundError:
        status, problem = "not started", "there is no summary.json"
    except (ValueError, KeyError, TypeError) as error:
        summary, status, problem = {}, "damaged", f"summary.json is damaged: {error}"
    rows = read_metrics(folder / "metrics.csv")
    if status in ("running", "interrupted"):
        step = max((int(row["step"]) for row in rows), default=0)
        problem = f"still running, or killed, at step {step}" if status == "running" else f"at step {step}"
    curve = [
        (float(row["train/seconds"]), float(row["val/bits_per_dim"]))
        for row in rows
        if row.get("val/bits_per_dim") and row.get("train/seconds")
    ]
    return Run(name, status, " ".join(problem.split()), summary, read_settings(folder), curve)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a `metrics.csv`, none where there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit()]


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what a run was told: its overrides where Hydra kept them, else its whole config."""
    overrides, config = folder / ".hydra/overrides.yaml", folder / "config.yaml"
    if overrides.exists():
        pairs = [str(override).lstrip("+~").partition("=") for override in yaml.safe_load(overrides.read_text()) or []]
        settings = {key: parse(value) for key, _, value in pairs}
    else:
        settings = dict(leaves(yaml.safe_load(config.read_text()))) if config.exists() else {}
    run_dir = str(settings.get("run_dir", folder))
    return {
        key: value
        for key, value in settings.items()
        if not key.startswith(NOT_SETTINGS) and not str(value).startswith(run_dir)
    }


def parse(value: str) -> Any:
    """Return the value of an override, as text where it is no YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def leaves(config: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of a nested config by their full keys."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def swept_settings(runs: list[Run]) -> list[str]:
    """Return the settings in which runs differ, one of those that always go together."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    columns = {key: tuple(str(run.settings.get(key)) for run in runs) for key in keys}
    first_with: dict[tuple[str, ...], str] = {}
    for key in sorted(keys, key=lambda key: key.count(".")):
        values = columns[key]
        if len(set(values)) > 1:
            first_with.setdefault(values, key)
    return sorted(first_with.values())


def table(runs: list[Run], swept: list[str]) -> list[dict[str, str]]:
    """Return a row a run, its columns by name."""

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
    """Return a table as Markdown, with a line that says how to read it."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name].replace("|", "\\|") for name in names] for row in rows)]
    done = sum(row["status"] == "completed" for row in rows)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{done} of {len(rows)} runs are complete, the best validation bits/dim first: select by that.\n"


def plots(runs: list[Run], swept: list[str], folder: Path) -> list[Path]:
    """Draw bits/dim of the complete runs against each swept setting and all runs against time; return the files."""
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
    """Draw validation and test bits/dim of runs against a setting."""
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
        axes.plot(numbers, [run.summary[column] for run in runs], marker, label=name, alpha=0.8)
    best = min(range(len(runs)), key=lambda row: runs[row].summary["val_bits_per_dim"])
    axes.axvline(numbers[best], color="0.8", zorder=0)
    axes.set(xlabel=key, ylabel="bits/dim", title="each point a run, the best by validation on the line")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def is_number(value: Any) -> bool:
    """Return whether a setting is a number, YAML's `1e-3` included."""
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
        axes.plot(*zip(*run.curve, strict=True), style, marker=".", color=colour, label=label)
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
    main()
