"""Callbacks that make a run slow, or break it."""

import signal
import time
from typing import Any

import lightning as L
import torch


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


class CrashInValidation(L.Callback):
    """Fail in the validation after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fail."""
        if trainer.global_step == self.step:
            raise RuntimeError("the machine failed")


class Signal(L.Callback):
    """Send a signal to this process within some step, once."""

    def __init__(self, step: int, number: int) -> None:
        self.step = step
        self.number = number

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Send it."""
        if trainer.global_step == self.step - 1:
            self.step = 0
            signal.raise_signal(self.number)


class DamageGradient(L.Callback):
    """Make the gradient of one step infinite."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Damage it."""
        if trainer.global_step == self.step:
            next(pl_module.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]


class Hang(L.Callback):
    """Keep the first rank out of a step for a long time, as a collective of a GPU would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Wait."""
        if trainer.global_step == self.step and trainer.is_global_zero:
            time.sleep(600)


class SaveInitialState(L.Callback):
    """Save the weights that each rank begins with, before the ranks have exchanged anything."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Wrap the configuration of the model, which comes after its initialisation and before DDP."""
        if stage == "fit":
            before = pl_module.configure_model

            def configure_model() -> None:
                before()
                torch.save(pl_module.state_dict(), f"rank-{trainer.global_rank}.pt")

            pl_module.configure_model = configure_model


class SlowValidation(L.Callback):
    """Take longer over each validation."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait."""
        time.sleep(self.seconds)


class FastClock(L.Callback):
    """Let time go ten times as fast for the second rank."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Change the clock, as Lightning's loops and checkpoints read it."""
        if trainer.global_rank == 1:
            now, start = time.monotonic, time.monotonic()
            time.monotonic = lambda: start + 10 * (now() - start)
