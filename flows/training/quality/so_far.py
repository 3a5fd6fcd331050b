"""Figures that are stored while more are measured, so that an interrupted command goes on from them."""

import json
from pathlib import Path
from typing import Any

from flows.training.knobs import Knobs
from flows.valid_json import to_json
from flows.whole_file import whole_file

SoFar = dict[tuple[Knobs, int], dict[str, Any]]
"""The figures of each set of samples, by how it is drawn and its sample seed."""


def read_so_far(path: Path, settings: dict[str, Any]) -> SoFar:
    """Return the figures in a file that `write_so_far` made; none if there is no file.

    Raises:
        FileExistsError: if the figures depend on other settings than these.
    """
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    other = [name for name, value in settings.items() if stored["settings"].get(name) != value]
    if other:
        raise FileExistsError(
            f"{path} holds figures of an interrupted command with other settings ({', '.join(other)}): give another "
            "folder by out=, or remove this file"
        )
    return {(_knobs(row["knobs"]), row["sample_seed"]): row["figures"] for row in stored["sets"]}


def write_so_far(path: Path, settings: dict[str, Any], so_far: SoFar) -> None:
    """Write figures, and the settings on which they depend besides knobs and sample seeds."""
    sets = [
        {"knobs": knobs._asdict(), "sample_seed": seed, "figures": figures} for (knobs, seed), figures in so_far.items()
    ]
    with whole_file(path) as partial:
        partial.write_text(to_json({"settings": settings, "sets": sets}) + "\n")


def _knobs(stored: dict[str, Any]) -> Knobs:
    levels = stored["level_temperature"]
    return Knobs(**{**stored, "level_temperature": None if levels is None else tuple(levels)})
