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


def start_and_wait_for_steps(folder: Path, *arguments: str) -> Script:
    script = Script(folder, "train.py", *THREE_EPOCHS, "run_id=mine", *arguments)
    metrics = folder / "outputs/mine/metrics.csv"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert script.process.is_alive(), script.wait()
        time.sleep(0.02)
    return script


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have started."""
    shown = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
    return [one for child in map(int, shown.split()) for one in (*descendants(child), child)]


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


def test_a_signal_to_all_processes_leaves_the_workers_until_the_step_is_stored(
    tmp_path: Path, uninterrupted: Path
) -> None:
    script = start_and_wait_for_steps(tmp_path, "data.num_workers=2")
    assert script.process.pid is not None
    processes = descendants(script.process.pid)
    assert len(processes) >= 2
    for pid in (*processes, script.process.pid):
        os.kill(pid, signal.SIGTERM)
    stopped = script.wait()
    assert stopped.exit_code == 130 and "which is stored in" in stopped.stderr, stopped.stderr
    again = run_script(tmp_path, "train.py", *THREE_EPOCHS, "data.num_workers=2", "run_id=mine", "resume=auto")
    assert again.exit_code == 0
    assert_same_run(uninterrupted, tmp_path / "outputs/mine")


EACH_VALIDATED = [
    *TINY,
    "trainer.max_epochs=1",
    "data.batch_size=128",
    "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1",
]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_validates_each_step_stops_after_a_validation(accumulate: int, tmp_path: Path) -> None:
    settings = [*EACH_VALIDATED, f"trainer.accumulate_grad_batches={accumulate}", "run_id=mine"]
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert run_script(tmp_path / "whole", "train.py", *settings).exit_code == 0
    ask = f"+callbacks.ask={{_target_: tests.support.callbacks.Signal, step: 2, number: {signal.SIGTERM.value}}}"
    stopped = run_script(tmp_path / "parts", "train.py", *settings, ask)
    assert stopped.exit_code == 130 and "interrupted after step 2, which is stored" in stopped.stderr
    assert run_script(tmp_path / "parts", "train.py", *settings, "resume=auto").exit_code == 0
    assert_same_run(tmp_path / "whole/outputs/mine", tmp_path / "parts/outputs/mine")


def test_a_run_that_validates_each_step_is_stored_by_the_clock(tmp_path: Path) -> None:
    often = "callbacks.last_minutes.train_time_interval.minutes=1e-9"
    crash = "+callbacks.crash={_target_: tests.support.callbacks.CrashInValidation, step: 4}"
    assert run_script(tmp_path, "train.py", *EACH_VALIDATED, often, "run_id=mine", crash).exit_code == 1
    assert torch.load(tmp_path / "outputs/mine/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


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
