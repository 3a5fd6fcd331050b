"""Runs as jobs of a real SLURM: ranks, requeueing, failures."""

import subprocess
from pathlib import Path

import pytest
import torch

from flows.training import read_summary
from tests.slurm.job import Job, call
from tests.support.command_line import run_script
from tests.support.run import TINY
from tests.support.same_run import assert_same_run

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]

SCRIPT, SAMPLE = "scripts/slurm/train.sbatch", "scripts/slurm/sample.sbatch"
RUN = [*TINY, "model.num_steps=1", "optimizer=adam", "trainer.max_epochs=3", "trainer.accelerator=cpu"]
"""120 steps, three epochs; Muon's steps, alike in all directions, would carry rounding into every weight."""
SLOW = [*RUN, "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.1}"]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run outside SLURM."""
    folder = tmp_path_factory.mktemp("one")
    result = run_script(folder, "train.py", *RUN, "run_id=one")
    assert result.exit_code == 0, result.stderr
    return folder / "outputs/one"


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished job of two tasks on one node."""
    job = Job(tmp_path_factory.mktemp("two"), "--ntasks-per-node=2", "--gpus-per-node=2", SCRIPT, *RUN)
    assert job.wait() == "COMPLETED", job.log
    return job


def assert_equal_to_rounding(job: Job, one_process: Path) -> None:
    """Assert that the ranks of a job trained one model as one process does, each image counted once."""
    assert [path.name for path in (job.folder / "outputs").iterdir()] == [job.run_dir.name]
    ends = [torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True) for run_dir in (one_process, job.run_dir)]
    for name, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], value, rtol=1e-3, atol=1e-3, msg=f"{name}: {{}}".format)
    results = [read_summary(run_dir / "summary.json") for run_dir in (one_process, job.run_dir)]
    assert results[1]["test_images"] == 297 and results[1]["images"] == results[0]["images"]
    assert results[1]["test_bits_per_dim"] == pytest.approx(results[0]["test_bits_per_dim"], rel=1e-4)
    assert job.log.count("bits/dim ±") == 1, "each rank has reported"
    assert len(list((job.run_dir / "samples").iterdir())) == 3


def test_two_tasks_train_as_one_process(two_tasks: Job, one_process: Path) -> None:
    assert_equal_to_rounding(two_tasks, one_process)


def test_two_nodes_train_as_one_process(tmp_path: Path, one_process: Path) -> None:
    job = Job(tmp_path, "--nodes=2", SCRIPT, *RUN)
    assert job.wait() == "COMPLETED", job.log
    assert_equal_to_rounding(job, one_process)


@pytest.mark.parametrize("name", ["sample", "interactive"])  # the second one is that of an interactive allocation
def test_two_tasks_draw_the_samples_of_one_process(tmp_path: Path, one_process: Path, name: str) -> None:
    told = [
        f"ckpt={one_process}/best.safetensors",
        "num_samples=11",
        "batch_size=4",
        "temperature=[0.5,1]",
        "device=cpu",
    ]
    options = ["--gpus-per-node=0", "--ntasks-per-node=2", f"--job-name={name}"]
    job = Job(tmp_path, *options, SAMPLE, *told, "device=cpu", "out=by-slurm")
    assert job.wait() == "COMPLETED", job.log
    assert job.log.count("11 images each") == 1, "each task has reported"
    assert run_script(tmp_path, "sample.py", *told, "device=cpu", "out=by-one").exit_code == 0
    one, two = (pictures(tmp_path / name) for name in ("by-one", "by-slurm"))
    assert len(one) == 23 and one == two


def pictures(folder: Path) -> dict[Path, bytes]:
    """Return the content of each picture below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def warn(job: Job) -> None:
    """Send the signal that SLURM sends before a time limit."""
    call("scancel", "--signal=USR1", job.number, folder=job.folder)


def requeue(job: Job) -> None:
    """Do what an operator does."""
    call("scontrol", "requeue", job.number, folder=job.folder)


@pytest.mark.parametrize("interrupt", [warn, requeue])
def test_an_interrupted_job_is_requeued_and_ends_like_an_uninterrupted_one(
    interrupt: object, tmp_path: Path, one_process: Path
) -> None:
    job = Job(tmp_path, SCRIPT, *SLOW)
    job.wait_for_step(50)
    interrupt(job)  # type: ignore[operator]
    assert job.wait() == "COMPLETED", job.log
    assert job.restarts() == 1
    assert_same_run(one_process, job.run_dir)
    if interrupt is warn:
        assert "the job goes back into the queue" in job.log


def test_a_job_of_two_tasks_that_is_warned_ends_like_an_uninterrupted_one(tmp_path: Path, two_tasks: Job) -> None:
    job = Job(tmp_path, "--ntasks-per-node=2", "--gpus-per-node=2", SCRIPT, *SLOW)
    job.wait_for_step(50)
    warn(job)
    assert job.wait() == "COMPLETED", job.log
    assert job.restarts() == 1
    assert_same_run(two_tasks.run_dir, job.run_dir)


def test_a_job_at_its_time_limit_is_requeued_and_ends_like_an_uninterrupted_one(
    tmp_path: Path, one_process: Path
) -> None:
    """A minute is the shortest limit; SLURM warns 30 s sooner than asked, or up to 60: 20 to 50 s after the start."""
    longer = [*RUN, "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.4}"]
    job = Job(tmp_path, "--time=1", "--signal=SIGUSR1@10", SCRIPT, *longer)
    assert job.wait() == "COMPLETED", job.log
    assert job.restarts() >= 1
    assert_same_run(one_process, job.run_dir)


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    job = Job(tmp_path, "--ntasks-per-node=2", "--gpus-per-node=2", SCRIPT, *RUN, "optimizer.lr=-1")
    assert job.wait() == "FAILED"
    assert "error: training: the optimizer refuses its settings" in job.log
    assert "Traceback" not in job.log


def test_tasks_that_do_not_match_the_devices_are_refused(tmp_path: Path) -> None:
    arguments = [SCRIPT, *RUN, "trainer=cpu", "trainer.devices=1", "trainer.num_nodes=1"]
    job = Job(tmp_path, "--ntasks-per-node=2", *arguments)
    assert job.wait() == "FAILED"
    assert "SLURM started 2 tasks for 1 devices on 1 nodes: give sbatch --nodes=1 --ntasks-per-node=1" in job.log
    assert not list(tmp_path.glob("outputs/*/checkpoints/*"))


def test_tasks_without_srun_are_refused(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text('#!/bin/sh\n#SBATCH --output=slurm-%j.log\npython train.py "$@"\n')
    job = Job(tmp_path, "--ntasks-per-node=2", "job.sh", *RUN, "trainer=ddp", "trainer.devices=2")
    assert job.wait() == "FAILED"
    assert "write 'srun python train.py ...' into the batch script" in job.log


def pids_of_rank(rank: int, job: Job) -> list[str]:
    """Return the processes of a task, by what SLURM tells them in their environment."""
    found = subprocess.run(["pgrep", "-f", f"train.py .*slurm-{job.number} "], capture_output=True, text=True)
    variable = f"SLURM_PROCID={rank}\0".encode()
    return [pid for pid in found.stdout.split() if variable in Path(f"/proc/{pid}/environ").read_bytes()]


def test_a_task_that_dies_ends_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path, "--ntasks-per-node=2", "--gpus-per-node=2", SCRIPT, *SLOW)
    job.wait_for_step(10)
    subprocess.run(["kill", "-9", *pids_of_rank(1, job)], check=True)
    assert job.wait() == "FAILED"
    assert "another rank of this run has died" in job.log or "Killed" in job.log
