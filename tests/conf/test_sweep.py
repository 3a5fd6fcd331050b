"""Sweeps on one machine: jobs that fail, searches that go on, one name for all."""

import csv
from pathlib import Path

import optuna
import pytest
import yaml

from flows.training import read_summary
from tests.support.command_line import Result, run_script
from tests.training.command.test_wrong_use import TINY

pytestmark = pytest.mark.slow


def sweep(folder: Path, *arguments: str) -> Result:
    return run_script(folder, "train.py", *TINY, *arguments, "run_id=mine", "-m")


def test_a_job_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    result = sweep(tmp_path, "optimizer.lr=1e-3,-1,3e-3", "callbacks.grids=null")
    assert result.exit_code == 1
    assert "Invalid learning rate: -1" in result.error
    assert "job 1 failed: training: the optimizer refuses its settings" in result.stderr
    results = [read_summary(tmp_path / f"multirun/mine/{job}/summary.json") for job in range(3)]
    assert [result["status"] for result in results] == ["completed", "failed", "completed"]
    assert "Invalid learning rate: -1" in results[1]["error"]


def test_a_sweep_that_goes_on_does_finished_jobs_no_more_and_refuses_other_settings(tmp_path: Path) -> None:
    arguments = ["resume=auto", "callbacks.grids=null"]
    assert sweep(tmp_path, *arguments, "seed=0,1").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.ckpt")}
    assert sweep(tmp_path, *arguments, "seed=0,1,2").exit_code == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.ckpt")}.items()
    assert read_summary(tmp_path / "multirun/mine/2/summary.json")["seed"] == 2
    refused = sweep(tmp_path, *arguments, "seed=3,4")
    assert refused.exit_code == 1
    assert "mine/0 holds a job with other settings (seed was 0 and is 3)" in refused.error


def test_a_search_knows_its_earlier_trials(tmp_path: Path) -> None:
    search = ["sweep=optuna", "hydra.sweeper.n_trials=2", "callbacks.grids=null"]
    for _ in range(2):
        result = sweep(tmp_path, *search)
        assert result.exit_code == 0, result.stderr
    trials = list(tmp_path.glob("multirun/mine/trial-*"))
    values = [read_summary(trial / "summary.json")["val_bits_per_dim"] for trial in trials]
    assert len(values) == 4
    found = yaml.safe_load((tmp_path / "multirun/mine/optimization_results.yaml").read_text())
    assert found["best_value"] == min(values)
    assert set(found["best_params"]) == {"optimizer.lr", "training.schedule.warmup_steps"}


def test_a_search_may_compare_samples(tmp_path: Path) -> None:
    features = "callbacks.quality.features={_target_: tests.support.features.Projected}"
    quality = ["callbacks=quality", features, "callbacks.quality.num_samples=40", "objective=fd"]
    result = sweep(tmp_path, "sweep=optuna", "hydra.sweeper.n_trials=3", "callbacks.grids=null", *quality)
    assert result.exit_code == 0, result.stderr
    values = [read_summary(path)["val_fd"] for path in tmp_path.glob("multirun/mine/trial-*/summary.json")]
    found = yaml.safe_load((tmp_path / "multirun/mine/optimization_results.yaml").read_text())
    assert len({*values}) == 3 and found["best_value"] == min(values)


def test_a_trial_that_fails_does_not_end_the_search(tmp_path: Path) -> None:
    diverges = ["optimizer.lr=choice(1e30,1e-3)", "training.schedule.warmup_steps=0", "callbacks.grids=null"]
    result = sweep(tmp_path, "sweep=optuna", *diverges, "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=0")
    assert result.exit_code == 0, result.stderr
    results = [read_summary(path) for path in tmp_path.glob("multirun/mine/*/summary.json")]
    assert {result["status"] for result in results} == {"completed", "failed"}


def test_a_trial_that_is_behind_is_pruned_at_a_validation_and_listed_so(tmp_path: Path) -> None:
    prunes_early = ["callbacks.pruning.pruner.n_startup_trials=1", "callbacks.pruning.pruner.percentile=50"]
    spread = ["optimizer.lr=tag(log, interval(1e-6, 1e-2))", "training.schedule.warmup_steps=0"]
    search = ["sweep=optuna", "hydra.sweeper.n_trials=8", "hydra.sweeper.sampler.seed=0", "trainer.max_epochs=3"]
    result = sweep(tmp_path, *search, *prunes_early, *spread, "callbacks.grids=null")
    assert result.exit_code == 0, result.stderr
    summaries = {path.parent: read_summary(path) for path in tmp_path.glob("multirun/mine/*/summary.json")}
    statuses = [summary["status"] for summary in summaries.values()]
    assert set(statuses) == {"completed", "pruned"} and len(statuses) == 8
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/multirun/mine/study.db")
    states = [trial.state.name for trial in study.get_trials()]
    assert sorted(states) == sorted({"completed": "COMPLETE", "pruned": "PRUNED"}[status] for status in statuses)
    pruned = next(summary for summary in summaries.values() if summary["status"] == "pruned")
    assert "is clearly behind the other trials" in pruned["problem"]
    completed = [summary["val_bits_per_dim"] for summary in summaries.values() if summary["status"] == "completed"]
    assert study.best_value == min(completed)
    run_script(tmp_path, "scripts/collect.py", "multirun/mine")
    with (tmp_path / "multirun/mine/collected.csv").open() as file:
        assert sorted(row["status"] for row in csv.DictReader(file)) == sorted(statuses)
