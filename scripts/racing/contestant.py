"""A contestant of a race: a config with a name, its runs, and what they reached."""

import statistics
from dataclasses import dataclass
from typing import Any

from flows.training import Run


@dataclass
class Contestant:
    """A config with a name, and its runs."""

    name: str
    overrides: list[str]
    runs: list[Run]

    def result(self) -> dict[str, Any]:
        """Return all results."""
        return {"name": self.name, "overrides": self.overrides, "runs": [facts(run) for run in self.runs]}

    def mean(self, key: str) -> float | None:
        """Return the mean over the complete runs: nan if one is not finite, None if one of them, or all, lack it."""
        values = [run.result(key) for run in self.runs if run.is_complete]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known and len(known) == len(values) else None

    def minutes_until(self, bits: float) -> float | None:
        """Return the mean of the minutes until runs validate with at most so many bits/dim, or None if not all do."""
        reached = [(point.seconds for point in run.curve if point.bits_per_dim <= bits) for run in self.runs]
        seconds = [next(times, None) for times in reached]
        known = [one for one in seconds if one is not None]
        return statistics.fmean(known) / 60 if known and len(known) == len(seconds) else None


def facts(run: Run) -> dict[str, Any]:
    """Return the summary of a run, its name and status, and its curve."""
    curve = [point._asdict() for point in run.curve]
    return {**run.summary, "status": run.status, "name": run.name, "curve": curve}
