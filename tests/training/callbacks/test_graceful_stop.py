"""A run that is asked to stop stores what it has computed, and goes on to the same end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flows.training import read_summary
from tests.support.command_line import Result, Script, run_script
from tests.support.same_run import assert_same_run
from tests.training.command.test_wrong_use import TINY

pytestmark = pytest.mark.slow

THREE_EPOCHS = [*TINY, "trainer.max_epochs=3", "data.batch_size=32"]
"""Forty steps each."""


def start_and_wait_for_steps(folder: Path) -> Script:
    script = Script(folder, "train.py", *THREE_EPOCHS, "run_id=mine")
    metrics = folder / "outputs/mine/metrics.csv"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert script.process.is_alive(), script.wait()
        time.sleep(0.02)
    return script


def interrupt(folder: Path, number: int) -> Result:
    script = start_and_wait_for_steps(folder)
    assert script.process.pid is not None
    os.kill(script.process.pid, number)
    return script.wait()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_script(folder, "train.py", *THREE_EPOCHS, "run_id=mine").exit_code == 0
    return folder / "outputs/mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stores_its_last_step_and_goes_on_to_the_same_end(
    number: int, tmp_path: Path, uninterrupted: Path
) -> None:
    stopped = interrupt(tmp_path, number)
    assert stopped.exit_code == 130
    last = tmp_path / "outputs/mine/checkpoints/last.ckpt"
    step = torch.load(last, weights_only=True)["global_step"]
    assert step % 40, "interrupted at the end of an epoch, which stores a checkpoint anyway"
    for part in (f"interrupted after step {step}", str(last), "run_id=mine resume=auto"):
        assert part in stopped.stderr
    assert read_summary(tmp_path / "outputs/mine/summary.json")["status"] == "interrupted"

    assert run_script(tmp_path, "train.py", *THREE_EPOCHS, "run_id=mine", "resume=auto").exit_code == 0
    assert_same_run(uninterrupted, tmp_path / "outputs/mine")


@pytest.mark.parametrize(
    "step", [39, 40, 41, 120], ids=["before", "last of an epoch", "first of the next", "last of all"]
)
def test_a_run_interrupted_at_the_end_of_an_epoch_goes_on_to_the_same_end(
    step: int, tmp_path: Path, uninterrupted: Path
) -> None:
    ask = f"+callbacks.ask={{_target_: tests.support.callbacks.Signal, step: {step}, number: {signal.SIGTERM.value}}}"
    stopped = run_script(tmp_path, "train.py", *THREE_EPOCHS, "run_id=mine", ask)
    assert stopped.exit_code == 130
    assert f"interrupted after step {step}, which is stored" in stopped.stderr
    assert run_script(tmp_path, "train.py", *THREE_EPOCHS, "run_id=mine", "resume=auto").exit_code == 0
    assert_same_run(uninterrupted, tmp_path / "outputs/mine")


LATE_WARNING = """
import os, signal
from flows.training import GracefulStop


class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1):
        kill(pid, number)


GracefulStop("checkpoints").setup(None, None, "fit")
os.kill(os.getpid(), signal.SIGUSR1)
late = Late()
"""


def test_a_warning_that_comes_while_python_shuts_down_does_not_make_a_finished_job_a_failed_one() -> None:
    environment = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train"}
    done = subprocess.run([sys.executable, "-c", LATE_WARNING], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stopping") == 1
