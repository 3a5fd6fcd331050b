"""Checkpoints by the clock, at steps from which a run goes on as if it had not stopped."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


def validates_next(trainer: L.Trainer) -> bool:
    """Return whether validation follows the step just taken, or may do so within a second.

    Nothing should be stored between the two: Lightning leaves that validation out when it goes on from there.
    """
    loop = trainer.fit_loop
    interval = trainer._val_check_time_interval  # type: ignore[attr-defined]
    return (
        trainer.is_last_batch
        or trainer.should_stop
        or 0 < trainer.max_steps <= trainer.global_step
        or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]
        or (interval is not None and time.monotonic() - trainer._last_val_time > interval - 1)  # type: ignore[attr-defined]
    )


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with a `train_time_interval`, which waits for validation where it follows."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store, if it is time."""
        if not validates_next(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
