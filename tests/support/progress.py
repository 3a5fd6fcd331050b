"""How far a run has come, seen from outside."""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch

SECONDS = 240


def last_step(run_dir: Path) -> int:
    """Return the last step whose loss the metrics of a run have, -1 for none."""
    path = run_dir / "metrics.csv"
    if not path.exists():
        return -1
    with path.open() as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if row.get("train/bits_per_dim")), default=-1)


def wait_for_step(run_dir: Path, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until the metrics of a run have the loss of a step."""
    deadline = time.monotonic() + SECONDS
    while last_step(run_dir) < step:
        assert time.monotonic() < deadline and alive(), f"{run_dir} does not come to step {step}"
        time.sleep(0.02)


def stored_step(run_dir: Path) -> int:
    """Return the step of the newest checkpoint, -1 for none."""
    paths = sorted(run_dir.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    return int(torch.load(paths[-1], weights_only=True)["global_step"]) - 1 if paths else -1
