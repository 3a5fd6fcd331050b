"""Whether a run that goes on has the settings that it began with."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

log = logging.getLogger(__name__)


def check_same_settings(config: dict[str, Any], run_dir: Path, strict: bool) -> None:
    """Compare a config with `config.yaml` of the run's earlier part, but for `resume` and the place of the folder.

    Args:
        config: resolved.
        run_dir: of the run; without a config in it there is nothing to compare.
        strict: whether to refuse other settings; they are named in a warning otherwise.

    Raises:
        ValueError: if strict, and a setting differs: its message says which.
    """
    path = run_dir / "config.yaml"
    if not path.exists():
        return
    before: Any = OmegaConf.to_container(OmegaConf.load(path))
    differences = _differences(before, config)
    if differences and strict:
        raise ValueError(
            f"{run_dir} holds a job with other settings ({', '.join(differences)}): a sweep goes on with the same "
            "command only, give this one another run_id"
        )
    if differences:
        log.warning("%s goes on with other settings: %s", run_dir, ", ".join(differences))


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, each value once, by the first of the keys that have it from there."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found: dict[tuple[str, str], str] = {}
    for key in {**new, **old}:
        values = old.get(key), new.get(key)
        moved = str(values[0]).replace(str(before.get("run_dir")), str(now.get("run_dir")))
        if key != "resume" and values[0] != values[1] and moved != str(values[1]):
            name = key.rpartition(".")[2]
            found.setdefault((name, str(values)), f"{key} was {values[0]} and is {values[1]}")
    return list(found.values())


def _leaves(config: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
