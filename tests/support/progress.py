"""Shows how many steps a run has made, from outside of its process."""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch

SECONDS = 240


def last_step(run_dir: Path) -> int:
    """Return the last step whose loss is in the metrics of a run; -1 if there is none."""
    path = run_dir / "metrics.csv"
    if not path.exists():
        return -1
    with path.open() as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if row.get("train/bits_per_dim")), default=-1)


def wait_for_step(run_dir: Path, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until the loss of a step is in the metrics of a run."""
    deadline = time.monotonic() + SECONDS
    while last_step(run_dir) < step:
        assert time.monotonic() < deadline and alive(), f"{run_dir} does not come to step {step}"
        time.sleep(0.02)


def stored_step(run_dir: Path) -> int:
    """Return the step of the newest checkpoint; -1 if there is none."""
    paths = sorted(run_dir.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    return int(torch.load(paths[-1], weights_only=True)["global_step"]) - 1 if paths else -1
