"""Checkpoints by the clock, at steps from which a run can continue as if it had not stopped."""

from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn


def may_store(trainer: L.Trainer) -> bool:
    """Return whether a run can continue after the last batch as if it had not stopped.

    It cannot in the middle of an optimizer step, because the gradients so far are in no checkpoint. It also cannot if
    validation comes next, because Lightning leaves this validation out when it resumes there.
    """
    loop = trainer.fit_loop
    validates_next = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]
    return not (loop._should_accumulate() or trainer.is_last_batch or validates_next)


def may_store_after_validation(trainer: L.Trainer) -> bool:
    """Return the same after a validation. At the end of an epoch, the callbacks of the epoch's end store."""
    in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    return in_fit and not (trainer.fit_loop._should_accumulate() or trainer.is_last_batch)


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with a `train_time_interval`, which waits for a step that may be stored.

    Raises:
        ValueError: if the interval is negative.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the interval."""
        interval = self._train_time_interval
        if interval is not None and interval < timedelta():
            raise ValueError(
                f"train_time_interval of a checkpoint is at least 0, got {interval.total_seconds():g} seconds"
            )
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store if it is time."""
        if may_store(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store if it is time. If each step is validated, there is no other moment."""
        super().on_validation_end(trainer, pl_module)
        if may_store_after_validation(trainer):
            super().on_train_batch_end(trainer, pl_module, None, None, 0)
