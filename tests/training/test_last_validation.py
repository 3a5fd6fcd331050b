"""Every run ends with a validation, whatever its limits and intervals, and validates no step twice."""

import csv
from pathlib import Path

import pytest
import torch

from flows.training import read_summary
from tests.support.run import run_training
from tests.support.same_run import assert_same_run, equal

FIVE_STEPS = ["data.batch_size=256", "trainer.max_epochs=3", "callbacks.grids=null", "test=false"]
"""Five batches an epoch."""


def validated(run_dir: Path) -> list[int]:
    """Return after how many steps a run has validated."""
    with (run_dir / "metrics.csv").open() as file:
        return [int(row["step"]) + 1 for row in csv.DictReader(file) if row.get("val/bits_per_dim")]


CASES = {
    "each epoch": ([], [5, 10, 15]),
    "each second epoch": (["trainer.check_val_every_n_epoch=2"], [10, 15]),
    "fewer epochs than the interval": (["trainer.check_val_every_n_epoch=9"], [15]),
    "steps within an epoch": (["trainer.val_check_interval=3"], [3, 8, 13, 15]),
    "parts of an epoch": (["trainer.val_check_interval=0.4"], [2, 4, 7, 9, 12, 14, 15]),
    "steps over epochs": (["trainer.val_check_interval=7", "trainer.check_val_every_n_epoch=null"], [7, 14, 15]),
    "an interval above the run": (
        ["trainer.val_check_interval=1000", "trainer.check_val_every_n_epoch=null"],
        [15],
    ),
    "a time above the run": (["trainer.val_check_interval=01:00:00:00"], [15]),
    "a limit of steps": (["trainer.max_steps=8", "trainer.check_val_every_n_epoch=2"], [8]),
    "a limit of steps at a validation": (["trainer.max_steps=6", "trainer.val_check_interval=3"], [3, 6]),
    "a limit of images": (["callbacks.throughput.max_images=2000", "trainer.check_val_every_n_epoch=3"], [8]),
    "fewer batches": (["+trainer.limit_train_batches=2", "trainer.check_val_every_n_epoch=2"], [4, 6]),
    "a part of the validation set": (
        ["+trainer.limit_val_batches=0.5", "data.eval_batch_size=50", "trainer.check_val_every_n_epoch=2"],
        [10, 15],
    ),
    "at least so many epochs": (
        ["+trainer.min_epochs=2", "callbacks.throughput.max_images=1000", "trainer.check_val_every_n_epoch=3"],
        [10],
    ),
    "two batches a step": (
        ["trainer.accumulate_grad_batches=2", "trainer.val_check_interval=3"],
        [2, 5, 8, 9],
    ),
    "a limit of images within a step of two batches": (
        ["trainer.accumulate_grad_batches=2", "callbacks.throughput.max_images=600"],
        [2],
    ),
    "stopped early": (
        [
            "+callbacks.early={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/bits_per_dim, "
            "patience: 1, min_delta: 100}"
        ],
        [5, 10],
    ),
}


QUICK = ("each second epoch", "steps within an epoch", "an interval above the run", "a limit of images")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_the_last_step_is_validated_and_none_twice(name: str, tmp_path: Path) -> None:
    overrides, steps = CASES[name]
    bits = run_training(tmp_path, *FIVE_STEPS, *overrides)
    assert validated(tmp_path) == steps
    summary = read_summary(tmp_path / "summary.json")
    assert summary["steps"] == steps[-1] and summary["val_bits_per_dim"] == bits
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] in steps


def test_grids_of_the_last_validation_are_drawn_whatever_their_interval(tmp_path: Path) -> None:
    run_training(
        tmp_path, "data.batch_size=256", "trainer.max_epochs=3", "callbacks.grids.every_n_epochs=4", "test=false"
    )
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [
        "step-00000005.png",
        "step-00000015.png",
    ]


INTERVALS = {
    "each second epoch": ["trainer.check_val_every_n_epoch=2"],
    "steps over epochs": ["trainer.val_check_interval=7", "trainer.check_val_every_n_epoch=null"],
    "a limit of steps": ["trainer.max_steps=13", "trainer.check_val_every_n_epoch=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 5, 6, 8, 10, 11])
@pytest.mark.parametrize("name", INTERVALS)
def test_a_resumed_run_validates_as_one_that_never_stopped(name: str, step: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    every_step = "callbacks.last_minutes.train_time_interval.minutes=0"
    settings = [*FIVE_STEPS, "test=true", "trainer.log_every_n_steps=1", every_step, *INTERVALS[name]]
    run_training(whole, *settings)
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(broken, *settings, f"+callbacks.crash={{_target_: tests.support.callbacks.Crash, step: {step}}}")
    run_training(broken, *settings, "resume=auto")
    assert_same_run(whole, broken)
    assert validated(whole) == validated(broken)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["trainer.max_steps={}", "callbacks.throughput.max_images={}*256"])
def test_a_run_that_ended_within_an_epoch_goes_on_as_one_with_the_later_limit(limit: str, tmp_path: Path) -> None:
    def settings(steps: int) -> list[str]:
        key, _, value = limit.partition("=")
        number = steps * 256 if value.endswith("256") else steps
        return [*FIVE_STEPS, f"{key}={number}", "training.schedule.decay_fraction=0", "trainer.max_epochs=3"]

    run_training(tmp_path / "whole", *settings(13))
    run_training(tmp_path / "first", *settings(8))
    run_training(tmp_path / "second", *settings(13), f"resume={tmp_path}/first/checkpoints/last.ckpt")
    ends = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("whole", "second")]
    for key in ("epoch", "global_step", "current_model_state", "state_dict", "optimizer_states"):
        assert equal(ends[0][key], ends[1][key]), key
    assert validated(tmp_path / "second") == [step for step in validated(tmp_path / "whole") if step > 8]
