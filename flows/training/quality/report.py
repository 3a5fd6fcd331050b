"""The report of how good samples look: a table and a plot over temperature and guidance."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from flows.training.knobs import Knobs

COLUMNS = {"fd": ".2f", "kid": ".5f", "precision": ".3f", "recall": ".3f", "accuracy": ".3f", "worst_class": ".3f"}
"""The figures of the table, and their number formats."""


def means(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table, from the figures of sets that were drawn in the same way, with the spread of FD.

    A figure that an interrupted command of an older version did not store is None.
    """
    row: dict[str, Any] = {name: mean_of([one.get(name) for one in found]) for name in (*COLUMNS, "kid_error")}
    return row | {"fd_spread": stdev(one["fd"] for one in found) if len(found) > 1 else None}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of values, or None if one of them is None."""
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def markdown(result: dict[str, Any]) -> str:
    """Return the table, followed by the settings on which its figures depend."""
    names = [name for name in COLUMNS if any(row[name] is not None for row in result["rows"])]
    heads = [{"fd": result["distance"], "kid": "KID", "worst_class": "worst class"}.get(name, name) for name in names]
    lines = [["images", *heads], ["---"] * (len(heads) + 1)]
    for row in result["rows"]:
        cells = ["" if row[name] is None else format(row[name], COLUMNS[name]) for name in names]
        if row["fd_spread"] is not None:
            cells[0] += f" ± {row['fd_spread']:.2f}"
        what = "training images" if row["temperature"] is None else f"samples, {knobs_of(row)}"
        lines.append([what, *cells])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    seeds = ", ".join(map(str, result["sample_seeds"]))
    notes = [
        f"{result['samples']:,} samples per row (sample seeds {seeds}) and {result['training_images']:,} "
        f"training images, compared with {result['real_images']:,} {result['split']} images.",
        "The row of training images is the floor; its accuracy is that of the real images compared with.",
    ]
    if result["training_images"] < result["samples"]:
        notes.append(
            "The floor has fewer images than the samples, so its FD is too high, and samples may get below it."
        )
    if result["classes_as_in_training"]:
        notes.append("The samples have each class as often as the training images.")
    if (bits := result["num_bits"]) < 8:
        notes.append(f"All images have {2**bits} grey levels, those of the flow.")
    about = f"Flow: {result['ckpt']}. Data: {result['data']}. Features: {result['features']}."
    return f"{text}\n\n{' '.join(notes)}\n\n{about}\n"


def knobs_of(row: dict[str, Any]) -> Knobs:
    """Return how the samples of a row of the table were drawn."""
    return Knobs(**{name: row[name] for name in Knobs._fields})


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the figures against temperature, or against guidance if there is only one temperature.

    The distance has one line for each guidance, the other figures are those at the best guidance. The figures of the
    training images are horizontal lines.
    """
    from matplotlib.figure import Figure

    floor, *rows = result["rows"]
    across, other = (
        ("temperature", "guidance") if len({r["temperature"] for r in rows}) > 1 else ("guidance", "temperature")
    )
    lines: dict[float, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row[other], row[across])):
        lines.setdefault(row[other], []).append(row)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for value, some in lines.items():
        left.plot([row[across] for row in some], [row["fd"] for row in some], "o-", label=f"{other} {value:g}")
    left.axhline(floor["fd"], color="black", linestyle=":", label="real images")
    left.set_ylabel(result["distance"])
    best = result["best"][other]
    for name in ("precision", "recall", "accuracy"):
        some = [row for row in lines[best] if row[name] is not None]
        if some:
            (line,) = right.plot([row[across] for row in some], [row[name] for row in some], "o-", label=name)
            if floor[name] is not None:
                right.axhline(floor[name], color=line.get_color(), linestyle=":", label=f"{name}, real images")
    right.set_ylabel(f"part of images, {other} {best:g}")
    for axis in (left, right):
        axis.set_xlabel(across)
        axis.legend()
    figure.savefig(path, dpi=150)
