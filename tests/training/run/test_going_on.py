"""From where a run goes on, with what of its earlier part, and how far."""

import os
import re
import shutil
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flows.training import CheckpointError, LitFlow, find_resume, load_flow, peek, read_summary
from flows.training.run.going_on import starting_point
from tests.support.run import run_training
from tests.support.same_run import equal, read_metrics
from tests.training.run.test_resumed_settings import SMALL, last, rates

LIMITS = {
    "epochs": (["trainer.max_epochs=1"], ["trainer.max_epochs=2"], 10),
    "steps, within an epoch": (["trainer.max_steps=3"], ["trainer.max_steps=7"], 7),
    "steps, at its end": (["trainer.max_steps=5"], ["trainer.max_steps=8"], 8),
    "images": (
        ["trainer.max_epochs=-1", "callbacks.throughput.max_images=1000"],
        ["callbacks.throughput.max_images=2000"],
        8,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_finished_run_goes_on_to_a_new_limit_like_one_that_had_it_from_the_start(name: str, tmp_path: Path) -> None:
    first, further, steps = LIMITS[name]
    run_training(tmp_path / "short", *SMALL, *first)
    shutil.copytree(tmp_path / "short", tmp_path / "long")
    run_training(tmp_path / "long", *SMALL, *first, *further, "resume=auto")
    run_training(tmp_path / "unbroken", *SMALL, *first, *further)
    long, unbroken = (read_summary(tmp_path / name / "summary.json") for name in ("long", "unbroken"))
    assert long["steps"] == unbroken["steps"] == steps
    assert long["images"] == unbroken["images"] == 256 * steps
    for key in ("state_dict", "current_model_state"):
        assert equal(last(tmp_path / "long")[key], last(tmp_path / "unbroken")[key]), key
    assert rates(tmp_path / "long")[-1] == 8e-3
    assert long["val_bits_per_dim"] == min(read_metrics(tmp_path / "long", "val/bits_per_dim"))


def test_a_run_of_seconds_that_is_given_more_goes_on_and_its_rate_rises_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(
        "flows.training.callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: float(next(clock)))
    )
    timed = [*SMALL, "training.schedule.decay_fraction=1", "trainer.max_epochs=-1"]
    run_training(tmp_path, *timed, "callbacks.throughput.max_seconds=12")
    steps = read_summary(tmp_path / "summary.json")["steps"]
    assert rates(tmp_path)[-1] < 8e-3 / 2
    run_training(tmp_path, *timed, "callbacks.throughput.max_seconds=36", "resume=auto")
    after = rates(tmp_path)[steps:]
    assert after[0] > 8e-3 / 2 > after[-1]
    assert read_summary(tmp_path / "summary.json")["steps"] == pytest.approx(3 * steps, abs=2)


@pytest.mark.parametrize("advised", ["optimizer.lr=1e-4", "trainer.gradient_clip_val=0.01"])
def test_a_run_that_diverges_gets_past_the_step_when_the_advice_is_followed(
    advised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: LitFlow) -> None:
        gentle = self.optimizers().param_groups[0]["lr"] < 1e-3 or self.trainer.gradient_clip_val < 0.1
        if self.global_step == 7 and not gentle:
            next(self.flow.parameters()).grad.fill_(float("inf"))

    monkeypatch.setattr(LitFlow, "on_after_backward", explode)
    stored = ["callbacks.last_minutes.train_time_interval.minutes=1e-9", "trainer.max_epochs=2"]
    with pytest.raises(FloatingPointError, match="diverged at step 7") as error:
        run_training(tmp_path, *SMALL, *stored)
    found = re.search(r"go on from it by (resume=\S+) with a lower (\S+) or (\S+),", str(error.value))
    assert found is not None and advised.partition("=")[0] in found.groups()
    run_training(tmp_path, *SMALL, *stored, advised, found[1])
    assert read_summary(tmp_path / "summary.json")["steps"] == 10


def test_the_newest_checkpoint_is_that_of_the_most_steps_whatever_the_time_of_a_file(
    begun: Any, tmp_path: Path
) -> None:
    shutil.copytree(begun(), tmp_path / "copy")
    best, newest = (tmp_path / f"copy/checkpoints/{name}.ckpt" for name in ("best", "last"))
    assert peek(best)["global_step"] == peek(newest)["global_step"]
    os.utime(newest, (0, 0))
    assert find_resume(tmp_path / "copy") == newest
    older = torch.load(newest, weights_only=True)
    torch.save({**older, "global_step": 3}, newest)
    assert find_resume(tmp_path / "copy") == best
    (tmp_path / "copy/checkpoints/deeper").mkdir()
    torch.save({**older, "global_step": 7}, tmp_path / "copy/checkpoints/deeper/other.ckpt")
    assert find_resume(tmp_path / "copy") == tmp_path / "copy/checkpoints/deeper/other.ckpt"


def test_a_run_goes_on_from_a_checkpoint_deeper_in_its_folder_with_its_records(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    deeper = tmp_path / "mine/checkpoints/steps"
    deeper.mkdir()
    (tmp_path / "mine/checkpoints/last.ckpt").rename(deeper / "last.ckpt")
    before = read_summary(begun() / "summary.json")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", f"resume={deeper}/last.ckpt")
    after = read_summary(tmp_path / "mine/summary.json")
    assert len(after["earlier_parts"]) == 1 + len(before.get("earlier_parts", []))
    assert after["wall_seconds"] > before["wall_seconds"]


@pytest.mark.parametrize("way", ["copied", "elsewhere", "overwritten"])
def test_the_best_so_far_is_kept_wherever_a_run_goes_on(way: str, begun: Any, tmp_path: Path) -> None:
    best = read_summary(begun() / "summary.json")["val_bits_per_dim"]
    run_dir, resume = tmp_path / "mine", "resume=auto"
    if way == "elsewhere":
        resume = f"resume={begun()}/checkpoints/last.ckpt"
    else:
        shutil.copytree(begun(), run_dir)
    if way == "overwritten":
        path = run_dir / "checkpoints/best.ckpt"
        torch.save({**torch.load(path, weights_only=True), "global_step": 400}, path)
        resume = f"resume={run_dir}/checkpoints/last.ckpt"
    worse = ["optimizer.lr=0.3", "trainer.max_epochs=2"]
    run_training(run_dir, *SMALL, *worse, resume)
    found = read_summary(run_dir / "summary.json")["val_bits_per_dim"]
    flow, provenance = load_flow(run_dir / "best.safetensors", with_provenance=True)
    assert provenance.bits_per_dim == pytest.approx(found, rel=1e-6)
    assert read_metrics(run_dir, "val/bits_per_dim")[-1] > best
    assert found == best if way != "overwritten" else found > best
    stored = load_flow(run_dir / "checkpoints/best.ckpt")
    assert equal(dict(flow.state_dict()), dict(stored.state_dict()))


def test_a_run_is_not_mixed_with_one_from_elsewhere(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "other")
    with pytest.raises(FileExistsError, match="holds a run"):
        run_training(tmp_path / "other", *SMALL, "trainer.max_epochs=2", f"resume={begun()}/checkpoints/last.ckpt")


def test_a_finished_run_is_tested_when_that_is_asked_for_later(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "test=true", "resume=auto")
    summary = read_summary(tmp_path / "mine/summary.json")
    assert summary["test_images"] == 297 and summary["steps"] == 5
    assert summary["val_bits_per_dim"] == read_summary(begun() / "summary.json")["val_bits_per_dim"]


@pytest.mark.parametrize("more", [[], ["training.num_test_draws=9"]])
def test_a_tested_run_keeps_its_test_when_none_is_asked_for(more: list[str], begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "test=true", "resume=auto")
    before = (tmp_path / "mine/summary.json").read_bytes()
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", *more, "resume=auto")
    assert (tmp_path / "mine/summary.json").read_bytes() == before


def test_checkpoints_of_weights_only_are_passed_over(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    newest = tmp_path / "mine/checkpoints/last.ckpt"
    checkpoint = torch.load(newest, weights_only=True)
    for key in ("optimizer_states", "lr_schedulers"):
        del checkpoint[key]
    torch.save({**checkpoint, "global_step": 99}, tmp_path / "mine/checkpoints/weights.ckpt")
    assert find_resume(tmp_path / "mine") == newest
    resume = f"resume={tmp_path}/mine/checkpoints/weights.ckpt"
    with pytest.raises(CheckpointError, match=r"weights.ckpt holds weights only.* give a .ckpt file of the run"):
        run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", resume)
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", "resume=auto")
    assert read_summary(tmp_path / "mine/summary.json")["steps"] == 10


def test_results_of_earlier_parts_are_kept(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "test=true", "resume=auto")
    before = read_summary(tmp_path / "mine/summary.json")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", "resume=auto")
    kept = read_summary(tmp_path / "mine/summary.json")["earlier_parts"][-1]
    results = {key: value for key, value in before.items() if key.startswith(("val_", "test_"))}
    assert {"val_bits_per_dim", "test_bits_per_dim", "test_draws"} <= results.keys() and results.items() <= kept.items()


def test_a_checkpoint_of_before_settings_were_stored_is_compared_with_the_config_beside_it(
    begun: Any, tmp_path: Path
) -> None:
    shutil.copytree(begun(), tmp_path / "old")
    for path in (tmp_path / "old/checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["settings"], checkpoint["provenance"]
        torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        run_training(tmp_path / "old", *SMALL, "trainer.max_epochs=2", "seed=1", "resume=auto")
    run_training(tmp_path / "old", *SMALL, "trainer.max_epochs=2", "optimizer.lr=1e-4", "resume=auto")
    assert rates(tmp_path / "old")[5:] == [1e-4] * 5


def test_a_finished_run_without_checkpoints_is_not_trained_anew(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine", ignore=shutil.ignore_patterns("*.ckpt"))
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "resume=auto")
    with pytest.raises(FileNotFoundError, match="without a checkpoint to go on from"):
        run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", "resume=auto")


def test_a_requeued_job_goes_on_in_its_own_folder(begun: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.training.run.going_on.was_requeued", lambda: True)
    elsewhere = str(begun() / "checkpoints/last.ckpt")
    assert starting_point(elsewhere, tmp_path) == Path(elsewhere)
    assert starting_point(elsewhere, begun()) == starting_point(None, begun()) == Path(elsewhere)
    assert starting_point(None, tmp_path) is None


@pytest.mark.parametrize("name", ["''", "."])
def test_a_run_has_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the run a name, or leave run_id out"):
        run_training(tmp_path, f"run_id={name}")
