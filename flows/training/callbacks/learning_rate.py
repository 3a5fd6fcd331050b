"""The learning rate in the log."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor


class LearningRate(LearningRateMonitor):
    """Lightning's LearningRateMonitor, which logs once per step even if a step has several batches.

    Without a logger, it does nothing.
    """

    def on_train_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Name the schedules."""
        if trainer.loggers:
            super().on_train_start(trainer, *args, **kwargs)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Log at the first batch of a step."""
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_start(trainer, *args, **kwargs)
