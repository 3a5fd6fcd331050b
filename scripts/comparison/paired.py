"""The difference of two flows on the same test images."""

import csv
import glob
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flows.training import Run, find_runs
from scripts.comparison.table import swept_settings

ALIKE = {
    "dequantize": "kinds of bound",
    "test_draws": "numbers of noise draws",
    "test_seed": "seeds of the noise",
    "num_bits": "bits per channel",
    "num_classes": "conditioning (classes)",
    "condition_shape": "conditioning (images)",
}
"""Facts in which runs must agree, and what they are called."""

OF_A_TEST = "test_bits_per_dim", "test_draws", "test_seed", "dequantize"
"""Facts of every run that was tested."""


class Side(NamedTuple):
    """The tested runs of one side.

    Args:
        name: what the user gave.
        runs: runs that differ by their seeds only.
        bits: `(N,)` bits/dim of each test image, the mean over the runs.
        images: row and checksum of each image.
        means: bits/dim of each run.
    """

    name: str
    runs: list[Run]
    bits: Tensor
    images: list[tuple[str, str]]
    means: list[float]


def compare(one: str, other: str) -> str:
    """Return what to print about two sides, each a run folder, or a pattern that fits run folders.

    Raises:
        FileNotFoundError: if there is no tested run.
        ValueError: if the runs were not tested alike, or changed since their test; the message says how.
    """
    sides = side(one), side(other)
    check_alike([run for each in sides for run in each.runs])
    if sides[0].images != sides[1].images:
        raise ValueError(
            f"{one} and {other} were tested on other images ({len(sides[0].images)} and {len(sides[1].images)}, "
            f"{len(set(sides[0].images) & set(sides[1].images))} of them the same): only images that both saw can be "
            "paired"
        )
    difference = sides[0].bits - sides[1].bits
    error = (difference.std() / len(difference) ** 0.5).item() if len(difference) > 1 else math.nan
    facts = sides[0].runs[0].summary
    lines = [
        f"{each.name}: {mean(each.means):.4f} bits/dim"
        + (f" (deviation over {len(each.means)} runs {stdev(each.means):.4f})" if len(each.means) > 1 else "")
        for each in sides
    ]
    return "\n".join(
        [
            *lines,
            f"difference: {difference.mean():+.4f} ± {error:.4f} bits/dim, the first minus the second, paired on "
            f"{len(difference):,} test images",
            f"the first is better on {(difference < 0).double().mean():.1%} of the images",
            f"{facts['test_draws']} draws of {facts['dequantize']} noise each, seed {facts['test_seed']}; the error "
            "covers the choice of test images, not that of training seeds: for these, compare several runs",
        ]
    )


def side(told: str) -> Side:
    """Read the runs that a path or a pattern names."""
    folders = [Path(told)] if Path(told).is_dir() else sorted(map(Path, glob.glob(told, recursive=True)))
    runs = {path: run for folder in folders if folder.is_dir() for path, run in tested(folder)}
    if not runs:
        raise FileNotFoundError(
            f"{told} holds no run with a test.csv: give the folder of a run that was tested (test=true), or a pattern "
            "in quotes, such as 'outputs/mine-*'"
        )
    if differs := swept_settings(runs.values()):
        raise ValueError(
            f"the runs of {told} differ in {', '.join(differs)}: give runs that differ by their seed only, such as "
            f"{next(iter(runs))}"
        )
    for path, run in runs.items():
        check_tested(path, run)
    tables = [read_scores(path / "test.csv") for path in runs]
    if any(table.keys() != tables[0].keys() for table in tables):
        raise ValueError(f"the runs of {told} were tested on other images: give runs with the same test images")
    bits = torch.tensor([list(table.values()) for table in tables], dtype=torch.float64)
    return Side(told, list(runs.values()), bits.mean(0), list(tables[0]), bits.mean(1).tolist())


def tested(folder: Path) -> list[tuple[Path, Run]]:
    """Return the runs in a folder that have a `test.csv`, with their folders."""
    found = [(folder if (folder / "test.csv").exists() else folder / run.name, run) for run in find_runs(folder)]
    return [(path, run) for path, run in found if (path / "test.csv").exists()]


def check_tested(path: Path, run: Run) -> None:
    """Check that the `test.csv` of a run belongs to its weights.

    Raises:
        ValueError: if it does not, or if that is not known.
    """
    if run.status == "damaged":
        raise ValueError(f"{path}: {run.problem}: remove it, and test the run again by its command with resume=auto")
    if not run.is_complete or "test_bits_per_dim" not in run.summary:
        raise ValueError(
            f"{path} was trained further since its test ({run.status}): test it again by its command with resume=auto "
            "test=true"
        )
    if missing := [key for key in OF_A_TEST if key not in run.summary]:
        raise ValueError(f"{path}/summary.json lacks {', '.join(missing)}: test the run again")


def read_scores(path: Path) -> dict[tuple[str, str], float]:
    """Return the bits/dim of each image, by its row in the test set and its checksum.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {(row["index"], row["crc32"]): float(row["bits_per_dim"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): test the run again") from error


def check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs whose figures mean different things.

    Raises:
        ValueError: if they do; the message says what differs.
    """

    def shown(value: Any) -> str:
        return "none" if value is None else str(value)

    for key, what in ALIKE.items():
        values = [shown(run.summary.get(key)) for run in runs]
        if len(set(values)) > 1:
            told = ", ".join(f"{value} in {run.name}" for value, run in zip(values, runs, strict=True))
            raise ValueError(f"the runs have other {what}, so their bits/dim cannot be compared: {told}")
