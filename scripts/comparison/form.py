"""Tables as CSV, Markdown and LaTeX."""

import csv
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, str]

LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"[": "{[}", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row]) -> str:
    """Return the columns that hold something."""
    names = filled(rows)
    return as_markdown([names, *([row[name] for name in names] for row in rows)])


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table. The first row is the header."""
    header, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *body])


def latex(rows: Sequence[Row]) -> str:
    """Return the columns that hold something, as a `tabular` with the rules of the package booktabs."""
    names = filled(rows)
    lines = [" & ".join(map(escape, (row[name] for name in names))) + r" \\" for row in rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * len(names)}}}",
            r"\toprule",
            " & ".join(map(escape, names)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def escape(text: str) -> str:
    """Return text that LaTeX sets as it is."""
    return "".join(LATEX.get(character, character) for character in text)


def filled(rows: Sequence[Row]) -> list[str]:
    """Return the names of the columns that hold something."""
    return [name for name in rows[0] if any(row[name] for row in rows)]


def with_deviations(rows: Sequence[Row]) -> list[Row]:
    """Return rows for people: mean and deviation in one cell, and no column of zeros only."""
    joined = []
    for row in rows:
        cells = {}
        for name, cell in row.items():
            if not name.endswith(", deviation"):
                deviation = row.get(f"{name}, deviation")
                cells[name] = f"{cell} ± {deviation}" if deviation else cell
        joined.append(cells)
    idle = {name for name in ("without result",) if all(row[name] == "0" for row in joined)}
    return [{name: cell for name, cell in row.items() if name not in idle} for row in joined]
