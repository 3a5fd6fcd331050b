"""Times works side by side: in rounds, each work with the settings that suit it best."""

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from scripts.benchmark.work import Work

TRIALS = 3
"""How often each setting is tried before the race."""


@dataclass
class Entry:
    """A work of one contestant with one memory format and one number of threads, and the seconds of each round."""

    work: Work
    setting: str
    num_threads: int
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """Return the setting, the seconds of each round, their median, and the spread of their middle half."""
        low, median, high = statistics.quantiles(self.seconds, n=4)
        return {"setting": self.setting, "seconds": self.seconds, "median": median, "spread": high - low}

    def take(self, device: torch.device) -> float:
        """Return the seconds that the work takes: the mean over `repeats` calls."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.num_threads)
        try:
            return elapsed(self.work, self.repeats, device) / self.repeats
        finally:
            torch.set_num_threads(before)


def elapsed(work: Work, repeats: int, device: torch.device) -> float:
    """Return the seconds that `repeats` calls take together: wall time, or on a GPU the time of its own clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def best_entry(
    candidates: Mapping[str, Work], thread_counts: Sequence[int], seconds: float, device: torch.device
) -> Entry:
    """Return the fastest of the candidates with all numbers of threads. In each round it takes about `seconds`.

    They take turns, so that a slow moment of the machine does not decide.
    """
    trials: list[tuple[Entry, list[float]]] = []
    for (setting, work), num_threads in itertools.product(candidates.items(), thread_counts):
        entry = Entry(work, f"{setting}, {num_threads} thread{'s' * (num_threads > 1)}", num_threads)
        entry.take(device)  # the first call prepares things that later calls reuse
        once = entry.take(device)
        entry.repeats = max(1, round(seconds / once))
        trials.append((entry, []))
    for _ in range(TRIALS if len(trials) > 1 else 0):
        for entry, taken in trials:
            taken.append(entry.take(device))
    return min(trials, key=lambda trial: min(trial[1], default=0.0))[0]


def race(entries: Sequence[Entry], rounds: int, device: torch.device) -> None:
    """Time all entries in turn, again and again, so that a slow minute of the machine affects all of them equally."""
    for _ in range(rounds):
        for entry in entries:
            entry.seconds.append(entry.take(device))
