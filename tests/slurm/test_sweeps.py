"""Sweeps whose jobs are jobs of a real SLURM."""

import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from flows.training import read_summary
from tests.slurm.job import Job, call, environment
from tests.support.command_line import ROOT, run_script
from tests.support.progress import SECONDS, wait_for_step
from tests.support.run import TINY
from tests.support.same_run import assert_same_run

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]

RUN = [*TINY, "model.num_steps=1", "trainer.max_epochs=1"]


def sweep(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a sweep from here, its jobs in SLURM."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", "cluster=slurm", "run_id=mine", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(started: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a sweep; return its status and what it printed."""
    with started:
        output, _ = started.communicate(timeout=SECONDS)
    return started.returncode, output


def test_a_grid_submitted_by_the_script(tmp_path: Path) -> None:
    arguments = [*RUN, "model.num_steps=1,2", "optimizer.lr=1e-3,3e-3"]
    job = Job(tmp_path, "scripts/slurm/sweep.sbatch", *[a for a in arguments if a != "model.num_steps=1"])
    assert job.wait() == "COMPLETED", job.log
    folder = tmp_path / f"multirun/sweep-{job.number}"
    results = [read_summary(folder / f"{number}/summary.json") for number in range(4)]
    assert [result["status"] for result in results] == ["completed"] * 4
    assert len({result["val_bits_per_dim"] for result in results}) == 4
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_a_job_that_fails_does_not_end_the_others_and_is_reported(tmp_path: Path) -> None:
    status, output = ended(sweep(tmp_path, *RUN, "optimizer.lr=-1,1e-3"))
    assert status == 1
    assert output.rstrip().splitlines()[-1].startswith("error: ") and "Invalid learning rate: -1" in output
    results = [read_summary(tmp_path / f"multirun/mine/{number}/summary.json") for number in range(2)]
    assert [result["status"] for result in results] == ["failed", "completed"]
    assert "Invalid learning rate: -1" in results[0]["error"]


def test_a_job_of_a_sweep_that_is_warned_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    alone = run_script(tmp_path, "train.py", *RUN, "trainer.max_epochs=3", "run_id=alone")
    assert alone.exit_code == 0, alone.stderr
    slow = "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.1}"
    run_dir = tmp_path / "multirun/mine/0"
    with sweep(tmp_path, *RUN, "trainer.max_epochs=3", slow, "seed=0,1") as started:
        wait_for_step(run_dir, 50)
        (number,) = re.findall(r"^(\d+)_0 ", call("squeue", "-h", "-r", "-o", "%i ", folder=tmp_path), re.MULTILINE)
        call("scancel", "--signal=USR1", f"{number}_0", folder=tmp_path)
        status, output = ended(started)
    assert status == 0, output
    assert "Restarts=1 " in call("scontrol", "show", "job", f"{number}_0", folder=tmp_path)
    assert_same_run(tmp_path / "outputs/alone", run_dir)


def test_jobs_of_two_tasks(tmp_path: Path) -> None:
    status, output = ended(
        sweep(tmp_path, *RUN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "seed=0,1")
    )
    assert status == 0, output
    results = [read_summary(tmp_path / f"multirun/mine/{number}/summary.json") for number in range(2)]
    assert [result["images"] for result in results] == [1280, 1280]


def test_a_search_goes_on_and_prunes_trials_that_are_behind(tmp_path: Path) -> None:
    search = [*RUN, "sweep=optuna", "model.hidden_channels=4", "trainer.max_epochs=2", "hydra.sweeper.n_jobs=2"]
    pruner = ["callbacks.pruning.pruner.n_startup_trials=2", "callbacks.pruning.pruner.percentile=50"]
    for trials in (
        ["hydra.sweeper.n_trials=2"],
        ["hydra.sweeper.n_trials=3", "optimizer.lr=tag(log, interval(1e-8, 1e-7))"],
    ):
        status, output = ended(sweep(tmp_path, *search, *pruner, *trials))
        assert status == 0, output
    results = [read_summary(path) for path in tmp_path.glob("multirun/mine/trial-*/summary.json")]
    assert sorted(result["status"] for result in results) == ["completed"] * 2 + ["pruned"] * 3
    best = float(re.findall(r"Best value: ([\d.]+)", output)[-1])
    assert best == min(result["val_bits_per_dim"] for result in results if result["status"] == "completed")
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/multirun/mine/study.db")
    assert sorted(trial.state.name for trial in study.get_trials()) == ["COMPLETE"] * 2 + ["PRUNED"] * 3
