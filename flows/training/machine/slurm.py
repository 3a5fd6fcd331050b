"""Running as the tasks of a SLURM job."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

if TYPE_CHECKING:
    import lightning as L

REQUEUE_SECONDS = 60


def is_slurm_job() -> bool:
    """Return whether SLURM runs this process, and not from an interactive shell (by Lightning's rule)."""
    return "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def is_slurm_task() -> bool:
    """Return whether the ranks of a run are tasks that SLURM starts, and not processes of torchrun within one."""
    return is_slurm_job() and "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ


def was_requeued() -> bool:
    """Return whether this is not the first start of a SLURM job."""
    return is_slurm_job() and int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def check_tasks(trainer: L.Trainer) -> None:
    """Check that SLURM started one task per device; otherwise, each task would train by itself, in the same folder.

    Raises:
        ValueError: if not; the message says how to start them.
    """
    if not is_slurm_task():
        return
    tasks, devices = int(os.environ["SLURM_NTASKS"]), trainer.num_devices * trainer.num_nodes
    if "SLURM_STEP_ID" not in os.environ and max(tasks, devices) > 1:
        raise ValueError("only srun starts all tasks of a job: write 'srun python train.py ...' into the batch script")
    if tasks != devices:
        raise ValueError(
            f"SLURM started {tasks} tasks for {trainer.num_devices} devices on {trainer.num_nodes} nodes: give sbatch "
            f"--nodes={trainer.num_nodes} --ntasks-per-node={trainer.num_devices}, or set trainer=ddp and "
            "trainer.devices (of a node) times trainer.num_nodes to the number of tasks"
        )


def requeue() -> str | None:
    """Put this job back into the queue, to be started again in the same way; return what went wrong, if anything."""
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REQUEUE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"scontrol ended with {done.returncode}" if done.returncode else None


def gpus_per_node(accelerator: str, devices: int) -> int | None:
    """Return how many GPUs to ask SLURM for on each node, None on the CPU.

    Raises:
        ValueError: if devices is no number.
    """
    if not isinstance(devices, int):
        raise ValueError(f"trainer.devices is {devices}: SLURM wants the number of devices of each node, give that")
    return None if accelerator == "cpu" else devices


OmegaConf.register_new_resolver("gpus_per_node", gpus_per_node, replace=True)
