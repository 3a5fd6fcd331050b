"""Compare the scores of scripts/score.py over several kinds of images from outside.

Examples:
    python scripts/compare_scores.py scores/digits scores/inverted scores/emoji

The folders are those that scripts/score.py wrote. The first table has the AUROC of every score for every folder. The
second one leaves out each folder in turn: it takes the score that is best on the others, by the mean, and shows its
AUROC on the folder left out. So it says what to expect from the best score on images of a kind not seen before.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from flows.training import print_whatever_comes
from scripts.comparison.form import as_markdown

Areas = dict[str, dict[str, float]]
"""AUROC of each score, for each folder."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="that scripts/score.py wrote")
    folders = parser.parse_args(arguments).folders
    if len(folders) < 2 or len({folder.name for folder in folders}) < len(folders):
        sys.exit("error: give at least two folders, with different names, which stand for them in the tables")
    try:
        areas = {folder.name: read(folder) for folder in folders}
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    shared = [score for score in next(iter(areas.values())) if all(score in row for row in areas.values())]
    areas = {folder: {score: row[score] for score in shared} for folder, row in areas.items()}
    shared.sort(key=lambda score: -mean_of(areas, score))
    rows = [[score, *(f"{row[score]:.3f}" for row in areas.values())] for score in shared]
    print(as_markdown([["score", *areas], *rows]))
    rows = [[folder, score, f"{area:.3f}"] for folder, score, area in left_out(areas)]
    print(f"\n{as_markdown([['left out', 'best on the others', 'AUROC'], *rows])}")


def read(folder: Path) -> dict[str, float]:
    """Return the AUROC of each score from a folder.

    Raises:
        FileNotFoundError: if the folder has no table.
        ValueError: if the table is damaged.
    """
    path = folder / "table.json"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: give folders that scripts/score.py wrote")
    try:
        return {score: row["auroc"] for score, row in json.loads(path.read_text()).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no table of scores: make it again with scripts/score.py") from error


def mean_of(areas: Areas, score: str) -> float:
    """Return the mean AUROC of a score."""
    return mean(row[score] for row in areas.values())


def left_out(areas: Areas) -> list[tuple[str, str, float]]:
    """Return for each folder the score with the best mean AUROC on the others, and its AUROC on this one."""
    found = []
    for folder, row in areas.items():
        others = {name: other for name, other in areas.items() if name != folder}
        best = max(row, key=lambda score: mean_of(others, score))
        found.append((folder, best, row[best]))
    return found


if __name__ == "__main__":
    print_whatever_comes()
    main()
