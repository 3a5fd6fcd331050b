"""Lightning's training loops: when a run validates, where it may stop, and how it is resumed."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


def is_last_step(trainer: L.Trainer) -> bool:
    """Return whether training ends with the batch just taken."""
    steps, epochs = (
        trainer.global_step,
        trainer.current_epoch + trainer.fit_loop.epoch_loop._num_ready_batches_reached(),
    )
    if 0 < trainer.max_steps <= steps or (trainer.max_epochs is not None and 0 < trainer.max_epochs <= epochs):
        return True
    return trainer.should_stop and epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)


class StepwiseLoop(_TrainingEpochLoop):
    """Lightning's loop over an epoch; it only validates and stops between optimizer steps, and validates the last step.

    A validation that is due during an optimizer step (`accumulate_grad_batches`) waits for the end of the step.
    Otherwise, what is stored in the validation would lack the gradients so far. If several ranks validate by the clock,
    all of them validate as soon as one finds that it is time.
    """

    def __init__(self, trainer: L.Trainer, min_steps: int | None = None, max_steps: int = -1) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self._clock_read_at = -1
        self._time_is_up = False

    @property
    def done(self) -> bool:
        """Whether to end the epoch."""
        return not self._should_accumulate() and super().done

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        if not self.trainer.enable_validation or self._should_accumulate():
            return False
        return is_last_step(self.trainer) or (self._should_check_val_epoch() and self._is_due())

    def _is_due(self) -> bool:
        """Return whether a validation was due at one of the batches of the optimizer step that has just ended."""
        trainer = self.trainer
        if trainer._val_check_time_interval is not None:
            return self._is_due_by_the_clock(trainer._val_check_time_interval)
        interval: Any = trainer.val_check_batch
        batches = 1 + (self.total_batch_idx if trainer.check_val_every_n_epoch is None else self.batch_idx)
        of_this_step = 1 + self.batch_idx % trainer.accumulate_grad_batches
        return bool(batches // interval > (batches - of_this_step) // interval)

    def _is_due_by_the_clock(self, interval: float) -> bool:
        """Return whether it is time on any rank; the answer is the same on all ranks, and during one batch."""
        if self._clock_read_at != self.total_batch_idx:
            self._clock_read_at = self.total_batch_idx
            waited = time.monotonic() - self.trainer._last_val_time
            self._time_is_up = self.trainer.strategy.reduce_boolean_decision(waited >= interval, all=False)
        return self._time_is_up


class ResumableLoop(_FitLoop):
    """Lightning's loop over epochs, which resumes at the end of an epoch or a run as if it had not stopped there.

    (Under `max_steps`, Lightning itself counts an epoch twice when it resumes at the end of this epoch. And it counts
    an epoch in which a run ended as a whole epoch.)
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer, trainer.min_epochs, trainer.max_epochs)
        self.epoch_loop = StepwiseLoop(trainer, trainer.min_steps, trainer.max_steps)

    def _iteration_based_training(self) -> bool:
        return False

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str) -> None:
        super()._load_from_state_dict(state_dict, prefix)
        if not state_dict[f"{prefix}epoch_loop.batch_progress"]["is_last_batch"]:
            for epochs in (self.epoch_progress.total, self.epoch_progress.current):
                epochs.processed = epochs.completed  # type: ignore[attr-defined]
