"""Limits on a run's images and training time."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.training import DataWait, Throughput, read_summary
from tests.support.run import run_training
from tests.support.same_run import assert_same_run, read_metrics


def test_a_limit_of_images_ends_the_run_with_a_learning_rate_near_zero(tmp_path: Path) -> None:
    run_training(
        tmp_path,
        "callbacks.throughput.max_images=2000",
        "trainer.max_epochs=-1",
        "trainer.log_every_n_steps=1",
        "training.schedule.warmup_steps=0",
    )
    summary = read_summary(tmp_path / "summary.json")
    assert summary["steps"] == -(-2000 // 32) and summary["images"] == 32 * summary["steps"]
    rates = read_metrics(tmp_path, "lr-Muon")
    assert rates[0] == pytest.approx(8e-3) and rates[-1] < 0.1 * rates[0]
    assert len(read_metrics(tmp_path, "val/bits_per_dim")) == 2, "after an epoch, and at the end"


def test_a_limit_of_seconds_leaves_validation_out(tmp_path: Path) -> None:
    run_training(
        tmp_path,
        "callbacks.throughput.max_seconds=1",
        "trainer.max_epochs=-1",
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.05}",
        "+callbacks.slow_validation={_target_: tests.support.callbacks.SlowValidation, seconds: 0.5}",
    )
    summary = read_summary(tmp_path / "summary.json")
    validations = len(read_metrics(tmp_path, "val/bits_per_dim"))
    assert validations >= 2
    assert 1 <= summary["images"] / summary["images_per_second"] < 1.5
    assert summary["wall_seconds"] > 1 + 0.5 * validations


def test_waits_for_data_add_up_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("flows.training.callbacks.data_wait.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    wait = DataWait()
    for _ in range(2):
        with wait.profile("[_TrainingEpochLoop].train_dataloader_next"), wait.profile("run_training_batch"):
            pass
    assert wait.seconds == 2.5


def test_the_part_of_the_time_that_is_waiting_is_logged(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_steps=20", "trainer.log_every_n_steps=10")
    parts = read_metrics(tmp_path, "train/data_wait")
    assert len(parts) == 2 and all(0 < part < 1 for part in parts)


LIMITED = [
    "data.batch_size=256",
    "trainer.max_epochs=-1",
    "callbacks.throughput.max_images=3584",
    "trainer.check_val_every_n_epoch=null",
    "trainer.val_check_interval=3",
    "callbacks.last_minutes.train_time_interval.minutes=1e-9",
    "trainer.log_every_n_steps=1",
]
"""Epochs of five steps, a validation every three, a checkpoint at every step that none follows."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_training(folder, *LIMITED)
    return folder


@pytest.mark.parametrize("step", [7, 9, 10, 11])
def test_a_run_with_limits_and_validations_within_an_epoch_resumes(step: int, unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(tmp_path, *LIMITED, f"+callbacks.crash={{_target_: tests.support.callbacks.Crash, step: {step}}}")
    run_training(tmp_path, *LIMITED, "resume=auto")
    assert_same_run(unbroken, tmp_path)
    assert read_summary(tmp_path / "summary.json")["images"] == 14 * 256


@pytest.mark.parametrize("limit", ["max_seconds", "max_images"])
def test_a_limit_is_positive(limit: str) -> None:
    with pytest.raises(ValueError, match=f"{limit} is a number above 0"):
        Throughput(**{limit: 0})
