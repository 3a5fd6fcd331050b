"""Steps whose loss or gradient is not finite end the run, or are skipped and counted."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer

import flows.training.lit as lit
from flows.training import LitFlow, read_summary
from flows.training.metric import Average
from tests.support.run import run_training
from tests.support.same_run import equal
from tests.training.test_train import EVERY_STEP


def damage_gradients(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the gradient infinite at some steps."""

    def damage(self: LitFlow) -> None:
        if self.global_step in steps:
            next(self.flow.parameters()).grad.fill_(float("inf"))

    monkeypatch.setattr(LitFlow, "on_after_backward", damage)


def test_a_gradient_that_is_not_finite_ends_the_run_and_names_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_gradients(monkeypatch, 7)
    with pytest.raises(FloatingPointError) as error:
        run_training(tmp_path, *EVERY_STEP)
    for part in (
        "diverged at step 7",
        "gradient norm inf",
        "learning rate ",
        "loss ",
        f"{tmp_path}/checkpoints/best.ckpt",
    ):
        assert part in str(error.value)
    assert read_summary(tmp_path / "summary.json")["status"] == "failed"


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        FloatingPointError, match=r"diverged at step 1: loss nan .* the last good checkpoint is none yet"
    ):
        run_training(tmp_path, *EVERY_STEP, "optimizer.lr=1e30", "training.schedule.warmup_steps=0")


def test_steps_that_are_not_finite_can_be_skipped_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_gradients(monkeypatch, 3, 7)
    run_training(tmp_path, *EVERY_STEP, "training.on_nonfinite=skip", "trainer.max_epochs=1")
    after_one = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert after_one["skipped_steps"] == 1
    resume = f"resume={tmp_path}/checkpoints/last.ckpt"
    run_training(tmp_path, *EVERY_STEP, "training.on_nonfinite=skip", "trainer.max_epochs=2", resume)
    assert read_summary(tmp_path / "summary.json")["skipped_steps"] == 2


def test_a_run_that_only_skips_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lit, "MOST_IN_A_ROW", 3)
    damage_gradients(monkeypatch, 2, 4, 5, 6, 7)
    with pytest.raises(FloatingPointError, match=r"diverged at step 7: .*; 3 steps in a row were skipped"):
        run_training(tmp_path, *EVERY_STEP, "training.on_nonfinite=skip")


@pytest.mark.parametrize("told", ["raise", "skip"])
def test_a_run_with_scaled_losses_ends_when_only_skipping_is_left(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU nothing scales losses, so that a gradient that is not finite damages the weights for good."""
    monkeypatch.setattr(lit, "MOST_IN_A_ROW", 3)
    monkeypatch.setattr(Trainer, "precision", "16-mixed")
    damage_gradients(monkeypatch, 2)
    with pytest.raises(FloatingPointError, match=r"diverged at step 5: .*gradient_clip_val; 3 steps in a row were"):
        run_training(tmp_path, *EVERY_STEP, f"training.on_nonfinite={told}")


def test_a_skipped_step_leaves_weights_and_moments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(tmp_path / "three", *EVERY_STEP, "trainer.max_steps=3", "training.schedule.decay_fraction=0")
    damage_gradients(monkeypatch, 3)
    run_training(
        tmp_path / "four",
        *EVERY_STEP,
        "trainer.max_steps=4",
        "training.on_nonfinite=skip",
        "training.schedule.decay_fraction=0",
    )
    three, four = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("three", "four")
    )
    assert equal(three["optimizer_states"][0]["state"], four["optimizer_states"][0]["state"])
    assert equal(three["current_model_state"], four["current_model_state"])


def test_a_validation_that_is_not_finite_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collect = LitFlow._collect

    def infinite_at_first(self: LitFlow) -> Average:
        average = collect(self)
        return Average(average.values + float("inf"), average.index) if self.global_step == 3 else average

    monkeypatch.setattr(LitFlow, "_collect", infinite_at_first)
    best = run_training(tmp_path, "+trainer.limit_train_batches=3", "trainer.max_epochs=2")
    assert "validation bits/dim is inf after step 3" in caplog.text
    assert best == read_summary(tmp_path / "summary.json")["val_bits_per_dim"] < 100
