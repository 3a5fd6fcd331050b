"""What a run puts in place of Lightning's own parts."""

from typing import Any

from lightning.pytorch.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]

from flows.training.checkpoint_io import WholeCheckpointIO
from flows.training.slurm import is_slurm_task


def trainer_plugins() -> list[Any]:
    """Return plugins for the trainer: whole checkpoints, and SLURM without Lightning's requeueing (`GracefulStop`)."""
    return [WholeCheckpointIO(), *([SLURMEnvironment(auto_requeue=False)] if is_slurm_task() else [])]
