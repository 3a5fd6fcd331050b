"""Checkpoints by the clock, at steps from which a run goes on as if it had not stopped."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


def validates_next(trainer: L.Trainer) -> bool:
    """Return whether validation follows the step just taken.

    Nothing should be stored between the two: Lightning leaves that validation out when it goes on from there.
    """
    return trainer.is_last_batch or trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with a `train_time_interval`, which waits for validation where it follows."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store, if it is time."""
        if not validates_next(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
