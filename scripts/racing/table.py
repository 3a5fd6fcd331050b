"""The tables of a race."""

import math
from collections.abc import Sequence

from flows.training import Run
from scripts.comparison.form import as_markdown
from scripts.racing.contestant import Contestant


def markdown(contestants: Sequence[Contestant], goals: Sequence[float] = ()) -> str:
    """Return the table of a race, with one row per contestant, and that of the minutes until each goal.

    A row has the means over the complete runs, and the test (or else validation) bits/dim of each seed. A mean is
    "not finite" if the result of one of them is not.
    """
    columns = ["contestant", "parameters", "images", "images/s", "val bits/dim", "gain", "test bits/dim", "each seed"]
    with_fd = any(contestant.mean("val_fd") is not None for contestant in contestants)
    columns += ["val FD"] * with_fd
    lines = [columns]
    first = contestants[0].mean("val_bits_per_dim")
    for contestant in contestants:
        val, test = contestant.mean("val_bits_per_dim"), contestant.mean("test_bits_per_dim")
        error = contestant.mean("test_standard_error")
        lines.append(
            [
                contestant.name,
                shown(contestant.mean("parameters"), ",.0f"),
                shown(contestant.mean("images"), ",.0f"),
                shown(contestant.mean("images_per_second"), ".0f"),
                shown(val, ".3f"),
                shown(None if val is None or first is None else first - val, "+.3f"),
                shown(test, ".3f") if error is None or math.isnan(error) else f"{test:.3f} ± {error:.3f}",
                ", ".join(map(of_seed, contestant.runs)),
                *[shown(contestant.mean("val_fd"), ".2f")] * with_fd,
            ]
        )
    runs = [run for contestant in contestants for run in contestant.runs]
    measured = [*dict.fromkeys(run.summary["val_samples"] for run in runs if "val_samples" in run.summary)]
    failed = [run for run in runs if not run.is_complete]
    parts = ["\n".join(f"{run.name} {run.status}: {run.problem}" for run in failed)]
    if measured:
        differ = " These differ, so do not compare their FD." if len(measured) > 1 else ""
        parts.insert(0, f"FD is that of {'; and of '.join(measured)}.{differ}")
    if len(contestants) > 1 or goals:
        parts.insert(0, as_markdown(time_to_quality(contestants, goals)))
    return "\n\n".join([as_markdown(lines), *filter(None, parts)]) + "\n"


def of_seed(run: Run) -> str:
    """Return the test (or else validation) bits/dim of a complete run, or the status of another one."""
    key = "test_bits_per_dim" if "test_bits_per_dim" in run.summary else "val_bits_per_dim"
    return shown(run.result(key), ".3f") if run.is_complete else run.status


def time_to_quality(contestants: Sequence[Contestant], goals: Sequence[float] = ()) -> list[list[str]]:
    """Return the minutes of training after which each contestant is as good as another one is at its end.

    There is one row per contestant, and one column per mean final validation bits/dim, then one per goal. A cell has
    the mean over the seeds of the minutes until the first validation that is at least as good. It is empty if not all
    of them came there.

    Args:
        contestants: with their runs.
        goals: bits/dim from elsewhere.
    """
    ends = [(one.mean("val_bits_per_dim"), f" ({one.name})") for one in contestants]
    known = [(bits, whose) for bits, whose in ends if bits is not None and math.isfinite(bits)]
    targets = [*known, *((bits, "") for bits in goals)]
    header = ["minutes until", *(f"{bits:.3f}{whose}" for bits, whose in targets)]
    lines = [header]
    for contestant in contestants:
        minutes = [contestant.minutes_until(bits) for bits, _ in targets]
        lines.append([contestant.name, *(shown(one, ".1f") for one in minutes)])
    return lines


def shown(value: float | None, form: str) -> str:
    """Return a number as text; None becomes an empty text."""
    if value is None:
        return ""
    return format(value, form) if math.isfinite(value) else "not finite"
