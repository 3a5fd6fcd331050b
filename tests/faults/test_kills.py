"""A run that is killed again and again ends like one that was never killed, bit for bit."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.dying import POINTS
from tests.support.command_line import Script, run_script
from tests.support.progress import last_step, stored_step, wait_for_step
from tests.support.run import TINY
from tests.support.same_run import assert_same_run

pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("KILLS", "8"))
STEPS_A_KILL = 16
RUN = [*TINY, "model.num_steps=1", f"trainer.max_epochs={KILLS * STEPS_A_KILL // 40}"]
OFTEN = ["callbacks.last_minutes.train_time_interval.minutes=0.003"]
SLOW = "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.02}"
WAYS = ["at a step", "half-way", "at a time", "before the renaming", "at a step", "after the renaming"]


def start(folder: Path, *arguments: str) -> Script:
    return Script(folder, "train.py", *RUN, *OFTEN, SLOW, "run_id=mine", "resume=auto", *arguments)


def kill(folder: Path, way: str, chance: random.Random) -> None:
    """Go on with the run, and have it killed."""
    run_dir = folder / "outputs/mine"
    if way in POINTS:
        dying = ["trainer.plugins._target_=tests.faults.dying.plugins", f"+trainer.plugins.point={way}"]
        script = start(folder, *dying, f"+trainer.plugins.number={chance.randint(1, 3)}")
        script.process.join(60)
    else:
        script = start(folder)
        if way == "at a step":
            step = max(last_step(run_dir), stored_step(run_dir)) + chance.randint(2, STEPS_A_KILL)
            wait_for_step(run_dir, step, script.process.is_alive)
        else:
            time.sleep(chance.uniform(0.3, 2))
        script.process.kill()
        script.process.join()
    assert script.process.exitcode == -signal.SIGKILL, script.outputs[1].read_text()


def test_a_run_killed_again_and_again_ends_like_one_never_killed(
    tmp_path: Path, unbroken: Callable[..., Path], record: Record
) -> None:
    chance, run_dir = random.Random(0), tmp_path / "outputs/mine"
    lost: dict[str, list[int]] = {}
    for number in range(KILLS):
        way = WAYS[number % len(WAYS)]
        kill(tmp_path, way, chance)
        lost.setdefault(way, []).append(max(0, last_step(run_dir) - stored_step(run_dir)))
    assert sum(len(lost[point]) for point in POINTS) >= 3
    result = run_script(tmp_path, "train.py", *RUN, *OFTEN, "run_id=mine", "resume=auto")
    assert result.exit_code == 0, result.stderr
    assert_same_run(unbroken(*RUN), run_dir, rows_lost=KILLS)
    for way, steps in lost.items():
        what = "SIGKILL in a checkpoint, " if way in POINTS else "SIGKILL "
        record(f"{what}{way}", len(steps), f"{min(steps)} to {max(steps)}", -9, "none")
