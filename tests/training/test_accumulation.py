"""Gradients over several batches a step: nothing is stored or stopped within a step."""

import signal
from pathlib import Path

import pytest

from flows.training import read_summary
from flows.training.callbacks.graceful_stop import Interrupted
from tests.support.run import run_training
from tests.support.same_run import assert_same_run

THREE_STEPS = [
    "data.batch_size=256",
    "trainer.max_epochs=2",
    "trainer.accumulate_grad_batches=2",
    "trainer.check_val_every_n_epoch=null",
    "trainer.val_check_interval=3",
    "callbacks.last_minutes.train_time_interval.minutes=0",
    "callbacks.grids=null",
]
"""Five batches an epoch, of which the last makes a step by itself; a validation is due after every third batch."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_training(folder, *THREE_STEPS)
    return folder


@pytest.mark.parametrize(
    ("step", "lost"),
    [(3, "last"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, "best"), (5, "best"), (5, "last")))],
)
def test_resuming_equals_not_stopping(step: int, lost: str, unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(
            tmp_path, *THREE_STEPS, f"+callbacks.crash={{_target_: tests.support.callbacks.Crash, step: {step}}}"
        )
    (tmp_path / f"checkpoints/{lost}.ckpt").unlink()
    run_training(tmp_path, *THREE_STEPS, "resume=auto")
    assert_same_run(unbroken, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3])
def test_a_run_that_is_asked_to_stop_within_a_step_finishes_it(step: int, unbroken: Path, tmp_path: Path) -> None:
    ask = f"+callbacks.ask={{_target_: tests.support.callbacks.Signal, step: {step}, number: {signal.SIGTERM.value}}}"
    with pytest.raises(Interrupted, match=f"interrupted after step {step}, which is stored"):
        run_training(tmp_path, *THREE_STEPS, ask)
    run_training(tmp_path, *THREE_STEPS, "resume=auto")
    assert_same_run(unbroken, tmp_path)


@pytest.mark.parametrize("limit", ["callbacks.throughput.max_images=1400", "trainer.max_time=00:00:00:01"])
def test_a_limit_within_a_step_ends_the_run_after_it(limit: str, tmp_path: Path) -> None:
    slow = (
        "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.3}" if "time" in limit else "resume=null"
    )
    run_training(tmp_path, *THREE_STEPS, limit, slow, "training.schedule.decay_fraction=0")
    summary = read_summary(tmp_path / "summary.json")
    whole_steps = [512, 1024, 1280, 1792, 2304, 2560]
    assert summary["steps"] < len(whole_steps) and summary["images"] == whole_steps[summary["steps"] - 1]
