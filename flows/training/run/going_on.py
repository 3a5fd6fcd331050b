"""Whether a command continues a run, and from which checkpoint."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

from flows.files import peek
from flows.training.callbacks.checkpoint_record import SETTINGS_KEY
from flows.training.lit import LitFlow
from flows.training.machine.slurm import was_requeued
from flows.training.optimizers.settings import check_optimizer
from flows.training.run.checkpoint import check_resume, checkpoint_to_resume, checkpoints, find_resume, run_of
from flows.training.run.id import is_sweep
from flows.training.run.limits import reached_limits
from flows.training.run.same_settings import Difference, Effect, changed_since, check_same_settings, read_config

log = logging.getLogger(__name__)


def asks_for_more(config: dict[str, Any], run_dir: Path) -> bool:
    """Return whether a command asks a finished run for something that it does not have, or that must be refused."""
    changed = changed_since(config, run_dir)
    if is_sweep():
        return bool(changed)
    no_work = {Effect.OBEYED} if config["test"] else {Effect.OBEYED, Effect.TEST}
    idle = [difference for difference in changed if difference.effect in no_work]
    if idle and len(idle) == len(changed):
        log.warning("%s is complete, which these settings do not change: %s", run_dir, ", ".join(map(str, idle)))
    return len(idle) < len(changed)


def starting_point(resume: str | None, run_dir: Path) -> Path | None:
    """Return the checkpoint to continue from, or None to start from the beginning.

    Raises:
        FileExistsError: if another run is in the folder.
    """
    if resume == "auto" or was_requeued():
        newest = find_resume(run_dir)
        if newest is not None or resume in (None, "auto"):
            return newest
    path = None if resume is None else checkpoint_to_resume(resume)
    if checkpoints(run_dir) and (path is None or run_dir.resolve() not in path.resolve().parents):
        raise FileExistsError(f"{run_dir} holds a run: go on with it by resume=auto, or give another run_id")
    return path


def check_going_on(
    start: Path, config: dict[str, Any], run_dir: Path, lit: LitFlow, trainer: L.Trainer
) -> list[Difference]:
    """Check that a run can continue from a checkpoint, and return the settings that differ from before.

    Raises:
        ValueError: if a setting differs and cannot be obeyed, or if nothing is left to do.
        CheckpointError: if the checkpoint does not load or holds another model.
    """
    check_resume(start, lit.flow)
    checkpoint = peek(start)
    before = checkpoint.get(SETTINGS_KEY) or read_config(run_of(start))
    changed = check_same_settings(config, run_dir, strict=is_sweep(), before=before)
    averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if averages != ("averaging_state" in checkpoint):
        raise ValueError(
            f"{start} {'has no averaged weights' if averages else 'has averaged weights'}: a run cannot "
            f"{'begin' if averages else 'stop'} averaging in its middle, give the same callbacks.ema, or start a new "
            "run by another run_id and without resume"
        )
    check_optimizer(lit.make_optimizer, lit.flow.named_parameters(), checkpoint["optimizer_states"][0])
    reached = reached_limits(trainer, checkpoint)
    if reached and any(difference.effect is Effect.TRAINING for difference in changed):
        raise ValueError(
            f"{run_dir} has nothing left to train under these settings ({'; '.join(reached)}): give a higher limit, or "
            "start a new run by another run_id and without resume"
        )
    return changed
