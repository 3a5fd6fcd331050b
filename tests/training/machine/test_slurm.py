"""Whether SLURM started as many tasks as a run has devices."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows.training.machine.slurm import check_tasks, is_slurm_task

JOB = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train"}


def trainer(devices: int, nodes: int = 1, tasks: int = 1) -> Any:
    """Return what the check reads of a trainer; within SLURM, Lightning takes the tasks for the world's size."""
    return SimpleNamespace(num_devices=devices, num_nodes=nodes, world_size=tasks)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for key, value in JOB.items():
        monkeypatch.setenv(key, value)
    return monkeypatch


@pytest.mark.parametrize(("tasks", "devices", "nodes"), [(1, 1, 1), (4, 4, 1), (16, 8, 2)])
def test_one_task_for_each_device_is_taken(job: pytest.MonkeyPatch, tasks: int, devices: int, nodes: int) -> None:
    job.setenv("SLURM_NTASKS", str(tasks))
    job.setenv("SLURM_STEP_ID", "0")
    check_tasks(trainer(devices, nodes, tasks))


@pytest.mark.parametrize(("tasks", "devices", "nodes"), [(1, 2, 1), (4, 8, 1), (2, 1, 1), (8, 8, 2)])
def test_other_numbers_of_tasks_are_refused(job: pytest.MonkeyPatch, tasks: int, devices: int, nodes: int) -> None:
    job.setenv("SLURM_NTASKS", str(tasks))
    job.setenv("SLURM_STEP_ID", "0")
    advice = f"SLURM started {tasks} tasks for {devices} devices on {nodes} nodes: .*--ntasks-per-node={devices}"
    with pytest.raises(ValueError, match=advice):
        check_tasks(trainer(devices, nodes, tasks))


@pytest.mark.parametrize(("tasks", "devices"), [(1, 2), (2, 2), (2, 1)])
def test_tasks_that_nobody_started_are_told(job: pytest.MonkeyPatch, tasks: int, devices: int) -> None:
    job.setenv("SLURM_NTASKS", str(tasks))
    with pytest.raises(ValueError, match="only srun starts all tasks of a job"):
        check_tasks(trainer(devices, 1, tasks))


def test_processes_of_torchrun_within_a_job_are_no_tasks(job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_NTASKS", "1")
    assert is_slurm_task()
    job.setenv("TORCHELASTIC_RUN_ID", "none")
    assert not is_slurm_task()
    check_tasks(trainer(8, 1, 8))
