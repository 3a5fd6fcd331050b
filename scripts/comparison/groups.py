"""One row per setting: mean and standard deviation over its runs, which differ by their seeds only."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from flows.training import Run
from scripts.comparison.table import FD, TEST, VAL, rank, seed_of


class Group(NamedTuple):
    """The runs of one setting."""

    settings: dict[str, str]
    runs: list[Run]

    @property
    def complete(self) -> list[Run]:
        """The runs that have their results."""
        return [run for run in self.runs if run.is_complete]

    def results(self, key: str) -> list[float]:
        """Return a result of each complete run that has it."""
        found = (run.summary.get(key) for run in self.complete)
        return [value for value in found if isinstance(value, int | float) and math.isfinite(value)]

    @property
    def name(self) -> str:
        """The settings in one line."""
        return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.settings.items())


def grouped(runs: Sequence[Run], swept: Sequence[str]) -> list[Group]:
    """Put the runs of equal settings together, the group of the least mean validation bits/dim first."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=rank):
        found.setdefault(tuple(str(run.settings.get(key, "")) for key in swept), []).append(run)
    groups = [Group(dict(zip(swept, values, strict=True)), members) for values, members in found.items()]
    return sorted(groups, key=lambda group: mean(group.results("val_bits_per_dim") or [math.inf]))


def group_table(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Return one row per group, with its columns by name. A deviation is that of a sample, and needs two runs."""
    rows = []
    for group in groups:
        row = {
            **group.settings,
            "runs": str(len(group.complete)),
            "seeds": str(len({str(seed_of(run)) for run in group.complete})),
        }
        for name, key, form in (
            (VAL, "val_bits_per_dim", ".4f"),
            (TEST, "test_bits_per_dim", ".4f"),
            (FD, "val_fd", ".2f"),
            ("images/s", "images_per_second", ".1f"),
        ):
            results = group.results(key)
            row[name] = format(mean(results), form) if results else ""
            row[f"{name}, deviation"] = format(stdev(results), form) if len(results) > 1 else ""
        row["without result"] = str(len(group.runs) - len(group.complete))
        rows.append(row)
    return rows
