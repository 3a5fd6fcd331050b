"""What a run folder says about its run, however the run ended."""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from flows.training.command.overrides import PARSER

COMMAND = ".hydra"
"""Where a run folder keeps Hydra's settings: `record_command` writes them, because Hydra itself writes too early."""

NOT_SETTINGS = ("run_id", "resume", "run_dir", "hydra.", "logger", "sweep", "cluster", "test")
"""Beginnings of keys that do not distinguish runs."""


class Point(NamedTuple):
    """A validation: training seconds and images until then, and the bits/dim.

    `train_bits_per_dim` is the mean over the logged training steps since the validation before it.
    """

    seconds: float
    images: float
    bits_per_dim: float
    train_bits_per_dim: float = math.nan


@dataclass
class Run:
    """What is known about a run from its folder."""

    name: str
    status: str
    problem: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the run has its results."""
        return self.status == "completed"

    def result(self, key: str) -> float | None:
        """Return a result: nan if it is not finite (JSON has null for it), None if there is none."""
        if key not in self.summary:
            return None
        return self.summary[key] if isinstance(self.summary[key], int | float) else math.nan


def record_command(run_dir: Path, cfg: DictConfig) -> None:
    """Write the settings of the command that trains in a folder: `config.yaml`, and `.hydra/` if it used Hydra."""
    OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
    folder = run_dir / COMMAND
    shutil.rmtree(folder, ignore_errors=True)
    if HydraConfig.initialized():
        folder.mkdir()
        OmegaConf.save(cfg, folder / "config.yaml")
        OmegaConf.save(OmegaConf.create({"hydra": HydraConfig.get()}), folder / "hydra.yaml")
        OmegaConf.save(HydraConfig.get().overrides.task, folder / "overrides.yaml")


def find_runs(folder: Path) -> Iterator[Run]:
    """Read all runs in a folder, at any depth."""
    marks = sorted({*folder.rglob("summary.json"), *folder.rglob(".hydra"), *folder.rglob("config.yaml")})
    places = {
        path.parent
        for path in marks
        if ".hydra" not in path.parent.parts and ".submitit" not in path.parts and not path.match("wandb/*/files/*")
    }
    for place in sorted(places):
        yield read_run(place, str(place.relative_to(folder)) if place != folder else folder.absolute().name)


def read_run(folder: Path, name: str) -> Run:
    """Read one run."""
    summary, problem = {}, ""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        status, problem = summary["status"], summary.get("error", summary.get("problem", ""))
    except FileNotFoundError:
        status, problem = "not started", "there is no summary.json"
    except (OSError, ValueError, KeyError, TypeError) as error:
        summary, status, problem = {}, "damaged", f"summary.json is damaged: {error}"
    rows, curve, settings = [], [], {}
    try:
        rows = _read_metrics(folder / "metrics.csv")
        curve, settings = _curve(rows), _read_settings(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        status, problem = "damaged", f"metrics.csv, config.yaml or .hydra/overrides.yaml is damaged: {error}"
    if status in ("running", "interrupted"):
        step = max((int(row["step"]) for row in rows), default=0)
        problem = f"still running, or killed, at step {step}" if status == "running" else f"at step {step}"
    return Run(name, status, " ".join(problem.split()), summary, settings, curve)


def _curve(rows: list[dict[str, str]]) -> list[Point]:
    """Return the validations among the rows of a `metrics.csv`."""
    columns = "train/seconds", "train/images", "val/bits_per_dim"
    curve, losses = [], []
    for row in rows:
        if row.get("train/bits_per_dim"):
            losses.append(float(row["train/bits_per_dim"]))
        if all(row.get(key) for key in columns):
            seconds, images, bits = (float(row[key]) for key in columns)
            curve.append(Point(seconds, images, bits, mean(losses) if losses else math.nan))
            losses = []
    return curve


def _read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a `metrics.csv`; no rows if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit()]


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run: its overrides if Hydra kept them, else its whole config."""
    overrides, config = folder / ".hydra/overrides.yaml", folder / "config.yaml"
    if overrides.exists():
        settings = dict(map(_parse, yaml.safe_load(overrides.read_text(encoding="utf-8")) or []))
    else:
        settings = dict(_leaves(yaml.safe_load(config.read_text(encoding="utf-8")))) if config.exists() else {}
    run_dir = f"{settings.get('run_dir', folder.absolute())}/"
    return {
        key: value
        for key, value in settings.items()
        if not key.startswith(NOT_SETTINGS) and not f"{value}/".startswith(run_dir)
    }


def _parse(override: str) -> tuple[str, Any]:
    """Return the key and the value of an override; the value is a text if Hydra would not accept it."""
    key, _, text = override.lstrip("+~").partition("=")
    try:
        return key, PARSER.parse_override(override).value()
    except HydraException:
        return key, text


def _leaves(config: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of a nested config by their full keys."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
