"""Compares the results of two runs."""

import csv
from pathlib import Path
from typing import Any

import torch

from flows.training import read_summary

STATES = ("current_model_state", "state_dict", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
RESULTS = ("status", "test_bits_per_dim", "val_bits_per_dim", "steps", "images", "parameters")
METRICS = ("train/bits_per_dim", "train/gradient_norm", "val/bits_per_dim", "lr-")
"""Beginnings of column names of `metrics.csv`. The name of the learning rate ends with the name of the optimizer."""


def assert_same_run(one: Path, other: Path, rows_lost: int = 0) -> None:
    """Assert that two run folders hold the same weights, optimizer, metrics and results, bit for bit.

    A kill between the checkpoint of a step and its metrics may lose the metrics. `rows_lost` rows may be missing, but
    at most half of a column.
    """
    ends = [torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True) for run_dir in (one, other)]
    for key in STATES:
        assert equal(ends[0][key], ends[1][key]), key
    results = [read_summary(run_dir / "summary.json") for run_dir in (one, other)]
    for key in RESULTS:
        assert results[0][key] == results[1][key], key
    for key in METRICS:
        rows = [_by_step(run_dir, key) for run_dir in (one, other)]
        assert rows[0], key
        assert rows[1].items() <= rows[0].items(), key
        assert len(rows[1]) >= len(rows[0]) - min(rows_lost, len(rows[0]) // 2), key


def read_metrics(run_dir: Path, key: str) -> list[float]:
    """Return one column of `metrics.csv`."""
    with (run_dir / "metrics.csv").open() as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


def _by_step(run_dir: Path, prefix: str) -> dict[int, float]:
    with (run_dir / "metrics.csv").open() as file:
        reader = csv.DictReader(file)
        (column,) = [name for name in reader.fieldnames or () if name.startswith(prefix)]
        rows = [(int(row["step"]), float(row[column])) for row in reader if row[column]]
    assert len(dict(rows)) == len(rows), f"{run_dir} has logged a step twice"
    return dict(rows)


def equal(one: Any, other: Any) -> bool:
    """Return whether two states are the same; tensors must agree bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other
