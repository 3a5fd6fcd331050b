"""What a race folder holds of earlier races, and whether another race may use it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from flows.training.command.overrides import OVERRIDE, PARSER
from flows.training.run.folder import COMMAND

NOT_COMPARED = ("resume", "hydra.")
"""Beginnings of keys that say nothing about what is trained."""


def check_rows(path: Path, names: Iterable[str]) -> None:
    """Check that a race has all runs of an earlier race, whose `race.json` it replaces.

    Raises:
        ValueError: if it does not; the message says which runs are left out.
    """
    if not path.exists():
        return
    try:
        earlier = [run["name"] for contestant in json.loads(path.read_text()) for run in contestant["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): remove it, or take another race folder") from error
    if lost := [name for name in earlier if name not in {*names}]:
        raise ValueError(
            f"{path} has results that this race would drop ({'; '.join(lost)}): give these contestants and seeds, too, "
            "or take another race folder"
        )


def check_run(folder: Path, overrides: Sequence[str]) -> None:
    """Check that the run in a folder, if there is one, was started with the same overrides.

    A run that was not tested may be tested now.

    Raises:
        ValueError: if the overrides differ; the message says which ones.
    """
    path = folder / COMMAND / "overrides.yaml"
    if not path.exists():
        return
    try:
        before, now = settings(yaml.safe_load(path.read_text(encoding="utf-8")) or []), settings(overrides)
    except (yaml.YAMLError, HydraException, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: take another race folder, or remove {folder}") from error
    if now.get("test") is True:
        before["test"] = True
    keys = [key for key in sorted({*before, *now}) if (key in before, before.get(key)) != (key in now, now.get(key))]
    if keys:
        which = ", ".join(f"{key} {told('was', key, before)} and {told('is', key, now)}" for key in keys)
        raise ValueError(
            f"{folder} holds a run of other settings ({which}): take another race folder, or remove that one"
        )


def settings(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values of overrides by their keys; options of Hydra are left out.

    Raises:
        HydraException: if Hydra cannot read an override.
    """
    parsed = [PARSER.parse_override(one) for one in overrides if OVERRIDE.match(one)]
    named = {one.get_key_element().lstrip("+~"): one.value() for one in parsed}
    return {key: value for key, value in named.items() if not key.startswith(NOT_COMPARED)}


def told(verb: str, key: str, found: dict[str, Any]) -> str:
    """Return the words for the value of a setting, or for its absence."""
    return f"{verb} {found[key]}" if key in found else f"{verb} not given"
