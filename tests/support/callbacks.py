"""Callbacks that make a run slow or break it."""

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch


class Slow(L.Callback):
    """Make each step take longer, so that a test has time to interfere."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Wait."""
        time.sleep(self.seconds)


class Crash(L.Callback):
    """Fail after a given step, as a machine might."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Fail."""
        if trainer.global_step == self.step:
            raise RuntimeError("the machine failed")


class CrashInValidation(L.Callback):
    """Fail in the validation after a given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fail."""
        if trainer.global_step == self.step:
            raise RuntimeError("the machine failed")


class Signal(L.Callback):
    """Send a signal to this process once, within a given step."""

    def __init__(self, step: int, number: int) -> None:
        self.step = step
        self.number = number

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Send the signal."""
        if trainer.global_step == self.step - 1:
            self.step = 0
            signal.raise_signal(self.number)


class DamageGradient(L.Callback):
    """Make the gradient of one step infinite."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Damage the gradient."""
        if trainer.global_step == self.step:
            next(pl_module.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]


class Hang(L.Callback):
    """Keep the first rank out of a step for a long time, as a hanging collective operation on GPUs would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Wait."""
        if trainer.global_step == self.step and trainer.is_global_zero:
            time.sleep(600)


class SaveInitialState(L.Callback):
    """Save the first weights of each rank, before the ranks exchange anything."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Wrap `configure_model`, which comes after the initialisation of the model and before DDP."""
        if stage == "fit":
            before = pl_module.configure_model

            def configure_model() -> None:
                before()
                torch.save(pl_module.state_dict(), f"rank-{trainer.global_rank}.pt")

            pl_module.configure_model = configure_model


class SlowValidation(L.Callback):
    """Make each validation take longer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait."""
        time.sleep(self.seconds)


class FastClock(L.Callback):
    """Make the clock of the second rank ten times as fast."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Change the clock that Lightning's loops and checkpoints read."""
        if trainer.global_rank == 1:
            now, start = time.monotonic, time.monotonic()
            time.monotonic = lambda: start + 10 * (now() - start)


class CountTraffic(L.Callback):
    """Write the bytes that this machine sends in ten training steps into the file `traffic`."""

    def __init__(self) -> None:
        self.before = 0

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Read the counts of all network interfaces."""
        if trainer.is_global_zero and trainer.global_step in (5, 15):
            lines = Path("/proc/net/dev").read_text().splitlines()[2:]
            sent = sum(int(line.partition(":")[2].split()[8]) for line in lines)
            if trainer.global_step == 15:
                Path("traffic").write_text(str(sent - self.before))
            self.before = sent
