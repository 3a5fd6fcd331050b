"""One row per setting: mean and standard deviation over its runs, which differ by their seeds only."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from flows.training import Run
from scripts.comparison.table import FD, NOT_FINITE, TEST, VAL, rank, seed_of


class Group(NamedTuple):
    """The runs of one setting."""

    settings: dict[str, str]
    runs: list[Run]

    @property
    def complete(self) -> list[Run]:
        """The runs that have their results."""
        return [run for run in self.runs if run.is_complete]

    def results(self, key: str) -> list[float]:
        """Return a result of each complete run that has it: nan if it is not finite, for which JSON has null."""
        return [value for run in self.complete if (value := run.result(key)) is not None]

    def mean(self, key: str) -> float:
        """Return the mean of a result over the complete runs; infinity if not all of them have a finite one."""
        results = self.results(key)
        total = mean(results) if results and len(results) == len(self.complete) else math.inf
        return total if math.isfinite(total) else math.inf

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
    return sorted(groups, key=lambda group: group.mean("val_bits_per_dim"))


def group_table(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Return one row per group, with its columns by name.

    A deviation is that of a sample, and needs two runs. There is no mean over some of the complete runs only: the cell
    says how many have the result, or that a result is not finite.
    """
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
            is_whole = math.isfinite(group.mean(key))
            row[name] = format(group.mean(key), form) if is_whole else partial(results, len(group.complete))
            row[f"{name}, deviation"] = format(stdev(results), form) if is_whole and len(results) > 1 else ""
        row["without result"] = str(len(group.runs) - len(group.complete))
        rows.append(row)
    return rows


def partial(results: Sequence[float], runs: int) -> str:
    """Return why there is no mean of the results of so many runs; an empty text if there are no results."""
    if not results:
        return ""
    return f"{len(results)} of {runs} runs have it" if len(results) < runs else NOT_FINITE
