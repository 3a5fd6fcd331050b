"""One row per run."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from flows.training import Run

VAL, TEST, FD = "val bits/dim", "test bits/dim", "val FD"
REPEATS = "seed", "training.seed", "data.seed"
"""Settings in which repeats of one run differ."""
NOT_FINITE = "not finite"
"""What stands for a result that is no number."""


def rank(run: Run) -> tuple[bool, float]:
    """Return a key that sorts runs.

    Complete runs come first, sorted by validation bits/dim. A run without a finite result comes last.
    """
    bits = run.summary.get("val_bits_per_dim")
    return not run.is_complete, math.inf if bits is None else bits


def seed_of(run: Run) -> Any:
    """Return the seed of a run; None if it is not known."""
    return run.summary.get("seed", run.settings.get("seed"))


def swept_settings(runs: Iterable[Run]) -> list[str]:
    """Return the settings in which runs differ, seeds left out. Of settings that always change together, return one."""
    runs = list(runs)
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in REPEATS)
    columns = {key: tuple(str(run.settings.get(key, "")) for run in runs) for key in keys}
    first_with: dict[tuple[str, ...], str] = {}
    for key in sorted(keys, key=lambda key: key.count(".")):
        values = columns[key]
        if len(set(values)) > 1:
            first_with.setdefault(values, key)
    return sorted(first_with.values())


def table(runs: Sequence[Run], swept: Sequence[str]) -> list[dict[str, str]]:
    """Return one row per run, with its columns by name."""

    def shown(run: Run, key: str, form: str) -> str:
        value = run.result(key) if run.is_complete else None
        if value is None:
            return ""
        return format(value, form) if math.isfinite(value) else NOT_FINITE

    return [
        {
            "run": run.name,
            **{key: str(run.settings.get(key, "")) for key in swept},
            VAL: shown(run, "val_bits_per_dim", ".4f"),
            TEST: shown(run, "test_bits_per_dim", ".4f"),
            "standard error": shown(run, "test_standard_error", ".4f"),
            FD: shown(run, "val_fd", ".2f"),
            "seed": "" if seed_of(run) is None else str(seed_of(run)),
            "parameters": shown(run, "parameters", "d"),
            "steps": shown(run, "steps", "d"),
            "images/s": shown(run, "images_per_second", ".1f"),
            "seconds": shown(run, "wall_seconds", ".0f"),
            "status": run.status,
            "problem": run.problem,
        }
        for run in runs
    ]


def is_number(value: Any) -> TypeGuard[float | str]:
    """Return whether a setting is a number. `1e-3`, which YAML reads as text, counts as a number."""
    try:
        return math.isfinite(float(value)) and not isinstance(value, bool)
    except (TypeError, ValueError):
        return False


def brief(value: Any) -> str:
    """Return a setting with few digits."""
    return f"{float(value):.3g}" if is_number(value) else str(value)
