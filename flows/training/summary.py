"""The summary of a run: its result, how it was made, how it ended."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning
import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_only

from flows.training.explain import explain
from flows.training.interrupted import Interrupted


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
        partial = self.path.with_suffix(f".{os.getpid()}.partial")  # before ranks know who is first, two may write
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
            self.update(status="failed", error=explain(error))
        try:
            self.write()
        except OSError:
            if error is None:  # else that is the one to hear of: it has told of the full disk
                raise


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
