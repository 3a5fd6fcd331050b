"""The summary of a run: its result, how it was made, how it ended."""

import json
import os
import platform
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning
import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_only

from flows import __version__
from flows.training.command.explain import explain
from flows.training.command.interrupted import Interrupted
from flows.training.run.provenance import git_commit
from flows.training.run.pruned import Pruned
from flows.valid_json import to_json

OF_A_PART = (
    "status",
    "error",
    "first_step",
    "changed_settings",
    "steps",
    "git_commit",
)
"""What is kept of one part of a run when the next part begins, beside its results."""

RESULTS = ("val_", "test_")
"""How the names of results begin."""


class RunSummary:
    """`summary.json`: written when the run starts and again when it ends, however it ends.

    Use as a context manager: `status` is "running", then "completed", "interrupted", "pruned" or "failed". Wall
    seconds add up over the parts of a resumed run, and `earlier_parts` says how each part ended. A resumed run does not
    change the file until it calls `begin`. Therefore, a run that is refused leaves no trace.

    Args:
        path: of the JSON file.
        resumed: whether this run continues another run.
        earlier: the summary of that other run; by default what the file says so far.
        facts: what is known at the start.
    """

    def __init__(self, path: Path, *, resumed: bool, earlier: Path | None = None, **facts: Any) -> None:
        self.path = path
        before = read_summary(earlier or path) if resumed else {}
        self._begun = not resumed
        self._earlier_seconds = before.get("wall_seconds", 0.0)
        self._start = time.perf_counter()
        self.facts: dict[str, Any] = {"status": "running", **facts, **environment()}
        if before:
            part = {key: value for key, value in before.items() if key in OF_A_PART or key.startswith(RESULTS)}
            self.facts["earlier_parts"] = [*before.get("earlier_parts", []), part]

    def begin(self) -> None:
        """Begin to write, now that it is clear that the run continues."""
        self._begun = True
        self.write()

    def update(self, **facts: Any) -> None:
        """Add facts."""
        self.facts.update(facts)

    @rank_zero_only
    def write(self) -> None:
        """Write the file, either complete or not at all, once the run has begun."""
        if not self._begun:
            return
        self.facts["wall_seconds"] = round(self._earlier_seconds + time.perf_counter() - self._start, 2)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}.partial")  # until ranks know who is first, two may write
        partial.write_text(to_json(self.facts) + "\n")
        partial.replace(self.path)

    def __enter__(self) -> "RunSummary":
        self.write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.facts["status"] = "completed"
        elif isinstance(error, Pruned):
            self.update(status="pruned", problem=str(error))
        elif isinstance(error, KeyboardInterrupt | SystemExit | Interrupted):
            self.facts["status"] = "interrupted"
        else:
            self.update(status="failed", error=explain(error))
        try:
            self.write()
        except OSError:
            if error is None:  # otherwise, the first error already tells about the full disk
                raise


def read_summary(path: Path) -> dict[str, Any]:
    """Return what `summary.json` says, or nothing if there is none.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, resume=auto writes a new one") from error


def environment() -> dict[str, Any]:
    """Return the versions and the git commit that a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "version": __version__,
        "git_commit": git_commit(),
    }
