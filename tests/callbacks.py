"""Callbacks that make a run slow, or fail at a given step."""

import time
from typing import Any

import lightning as L


class Slow(L.Callback):
    """Take longer over each step, so that there is time to interfere."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Wait."""
        time.sleep(self.seconds)


class Crash(L.Callback):
    """Fail after some step, as a machine might."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Fail."""
        if trainer.global_step == self.step:
            raise RuntimeError("the machine failed")
