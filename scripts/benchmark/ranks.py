"""Measure how the training speed grows from one process to several ranks on the CPU, which exchange gradients by gloo.

Example:
    python -m scripts.benchmark.ranks --ranks 2

Each thread has 32 images per step. Separate runs at the same time share the machine as ranks do, but exchange nothing.
So their speed is the most that ranks can reach on this machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from flows.training.command.overrides import ROOT, as_argument
from scripts.comparison.form import as_markdown

BATCH = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one process, separate processes and ranks in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2, help="at most one per core (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--steps", type=int, default=150, help="training steps of each run (default: 150)")
    told = parser.parse_args(arguments)
    if min(told.ranks, told.rounds, told.steps) < 1:
        parser.error(f"--ranks, --rounds and --steps are at least 1, got {told.ranks}, {told.rounds} and {told.steps}")
    ways = {
        "one process": (1, 1, 1),
        "one process, all threads": (1, 1, told.ranks),
        "separate processes": (told.ranks, 1, 1),
        "ranks": (1, told.ranks, 1),
    }
    rounds = [{name: speed(*way, told.steps) for name, way in ways.items()} for _ in range(told.rounds)]
    speeds = {name: median(one[name] for one in rounds) for name in ways}
    rows = [["", "processes", "threads in each", "images per second", "against one process"]]
    for name, (runs, ranks, threads) in ways.items():
        gain = f"{speeds[name] / speeds['one process']:.2f}x"
        rows.append([name, str(runs * ranks), str(threads), f"{speeds[name]:.0f}", gain])
    print(as_markdown(rows))


def speed(runs: int, ranks: int, threads: int, steps: int) -> float:
    """Return the images per second of all processes together."""
    with tempfile.TemporaryDirectory() as folder:
        run_dirs = [Path(folder) / str(number) for number in range(runs)]
        started = [start(run_dir, ranks, threads, steps) for run_dir in run_dirs]
        errors = [process.communicate()[1] for process in started]
        for process, error in zip(started, errors, strict=True):
            if process.returncode:
                sys.exit(error)
        return sum(json.loads((run_dir / "summary.json").read_text())["images_per_second"] for run_dir in run_dirs)


def start(run_dir: Path, ranks: int, threads: int, steps: int) -> subprocess.Popen[str]:
    """Start a training of the default Glow on generated images."""
    command = (
        f"train.py data.source=generated data.batch_size={BATCH * ranks * threads} data.num_val=64 trainer=ddp "
        f"trainer.accelerator=cpu trainer.devices={ranks} trainer.max_steps={steps} trainer.max_epochs=-1 test=false"
    )
    return subprocess.Popen(
        [sys.executable, *command.split(), as_argument("hydra.run.dir", run_dir)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
