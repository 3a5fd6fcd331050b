"""What a run leaves in its folder beside checkpoints and pictures: its name, its summary, how it ended."""

import json
import os
import platform
import subprocess
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning
import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from flows.training.graceful_stop import Interrupted


def new_run_id() -> str:
    """Name a run after its SLURM job and step, else its torchrun job, else the time: the same on all its ranks.

    Raises:
        ValueError: if torchrun was given no id.
    """
    environ = os.environ
    if "SLURM_JOB_ID" in environ:
        return f"slurm-{environ['SLURM_JOB_ID']}-{environ.get('SLURM_STEP_ID', 'batch')}"
    if "TORCHELASTIC_RUN_ID" in environ:
        if environ["TORCHELASTIC_RUN_ID"] == "none":
            raise ValueError("torchrun gave its ranks no common name: use torchrun --standalone, or give run_id=NAME")
        return f"torchrun-{environ['TORCHELASTIC_RUN_ID']}"
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def run_name(run_dir: str) -> str:
    """Name a run by its folder: `NAME` for `outputs/NAME`, `NAME-3` for job 3 of the sweep `multirun/NAME`."""
    parent, name = Path(run_dir).parts[-2:]
    return name if parent == "outputs" else f"{parent}-{name}"


OmegaConf.register_new_resolver("new_run_id", new_run_id, use_cache=True, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


class RunSummary:
    """`summary.json`: written when the run starts and again when it ends, however it ends.

    Use as a context manager: `status` is "running", then "completed", "interrupted" or "failed". Wall seconds add up
    over the parts of a resumed run.

    Args:
        path: of the JSON file.
        resumed: whether what the file says so far is an earlier part of this run.
        facts: what is known at the start.
    """

    def __init__(self, path: Path, *, resumed: bool, **facts: Any) -> None:
        self.path = path
        self._earlier_seconds = read_summary(path).get("wall_seconds", 0.0) if resumed else 0.0
        self._start = time.perf_counter()
        self.facts: dict[str, Any] = {"status": "running", **facts, **environment()}

    def update(self, **facts: Any) -> None:
        """Add facts."""
        self.facts.update(facts)

    @rank_zero_only
    def write(self) -> None:
        """Write the file, whole or not at all."""
        self.facts["wall_seconds"] = round(self._earlier_seconds + time.perf_counter() - self._start, 2)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.facts, indent=2) + "\n")
        partial.replace(self.path)

    def __enter__(self) -> "RunSummary":
        self.write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.facts["status"] = "completed"
        elif isinstance(error, KeyboardInterrupt | SystemExit | Interrupted):
            self.facts["status"] = "interrupted"
        else:
            self.update(status="failed", error=f"{type(error).__name__}: {error}")
        self.write()


def read_summary(path: Path) -> dict[str, Any]:
    """Return what `summary.json` says, or nothing if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, resume=auto makes it anew") from error


def environment() -> dict[str, Any]:
    """Return the versions and the git commit that a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of this code, marked where files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
