"""Jobs of the test cluster."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.support.command_line import ROOT
from tests.support.progress import SECONDS, wait_for_step

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


def environment() -> dict[str, str]:
    """Return the variables of a user whose environment is this one, on the cluster of the tests."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # for tests.support.callbacks
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
    }


def call(*command: str, folder: Path) -> str:
    """Run one of SLURM's commands; return what it prints."""
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Job:
    """A job made by `sbatch`, in a folder that looks like the project's.

    Args:
        folder: where outputs go.
        arguments: of sbatch: its options, the script (from the project's folder), the script's arguments.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        for name in ("train.py", "sample.py", "conf", "scripts"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        self.folder = folder
        self.number = call("sbatch", "--parsable", *arguments, folder=folder).strip()
        self.run_dir = folder / f"outputs/slurm-{self.number}"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        path = self.folder / f"slurm-{self.number}.log"
        return path.read_text() if path.exists() else ""

    @property
    def state(self) -> str:
        """SLURM's word for how it is."""
        return call("squeue", "-h", "-t", "all", "-j", self.number, "-o", "%T", folder=self.folder).strip()

    def wait(self) -> str:
        """Wait for its end; return the state then."""
        deadline = time.monotonic() + SECONDS
        while (state := self.state) not in ENDED:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.3)
        return state

    def wait_for_step(self, step: int) -> None:
        """Wait until its metrics tell of a step."""
        wait_for_step(self.run_dir, step)

    def restarts(self) -> int:
        """Return how often it was started again."""
        shown = call("scontrol", "show", "job", self.number, folder=self.folder)
        return int(re.search(r"Restarts=(\d+)", shown)[1])  # type: ignore[index]
