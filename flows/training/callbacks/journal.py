"""A log of the run for people: what starts, one line for each validation, and how it ended."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Timer

from flows.training.callbacks.throughput import Throughput
from flows.training.callbacks.time_left import TimeLeft, duration
from flows.training.command.overrides import from_here
from flows.training.lit import LitFlow

log = logging.getLogger(__name__)


class Journal(L.Callback):
    """Log how a run goes, in plain lines: on the terminal, in SLURM's files and in `train.log` of the run folder."""

    def __init__(self) -> None:
        self._time_left: TimeLeft | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what is trained on what, and until when."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, LitFlow)
        self._time_left = TimeLeft(trainer, pl_module)
        data = trainer.datamodule  # type: ignore[attr-defined]
        parameters = sum(parameter.numel() for parameter in pl_module.flow.parameters())
        begun = f", {trainer.global_step:,} steps are done" if trainer.global_step else ""
        log.info(
            "training %s of %s parameters on %s images, in %s; it ends by %s%s",
            type(pl_module.flow).__name__,
            f"{parameters:,}",
            f"{len(data.train_set):,}",
            from_here(Path(trainer.default_root_dir)),
            " or ".join(limits(trainer)) or "Ctrl-C",
            begun,
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log one line."""
        if self._time_left is None or trainer.sanity_checking:
            return
        assert isinstance(pl_module, LitFlow) and pl_module.validation is not None
        _, average = pl_module.validation
        left = self._time_left.seconds()
        log.info(
            "step %s, epoch %.1f: %.4f bits/dim on %s validation images%s%s",
            f"{trainer.global_step:,}",
            epochs(trainer),
            average.mean,
            f"{average.num_images:,}",
            speed(trainer),
            "" if left is None else f", {duration(left)} left",
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that training has ended."""
        if self._time_left is not None:
            log.info(
                "training has ended after %s steps and %s",
                f"{trainer.global_step:,}",
                duration(time.monotonic() - self._time_left.started),
            )

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say by what training was ended."""
        if self._time_left is not None:
            log.info("%s ended training after %s steps", type(exception).__name__, f"{trainer.global_step:,}")


def limits(trainer: L.Trainer) -> Iterator[str]:
    """Go through the limits of a run."""
    if trainer.max_steps > 0:
        yield f"trainer.max_steps={trainer.max_steps}"
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        yield f"trainer.max_epochs={trainer.max_epochs}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Throughput):
            for name in ("max_seconds", "max_images"):
                if (limit := getattr(callback, name)) is not None:
                    yield f"callbacks.throughput.{name}={limit}"
        if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None:
            yield f"trainer.max_time (in {duration(remaining)})"


def epochs(trainer: L.Trainer) -> float:
    """Return how many passes over the training images are done."""
    batches = trainer.num_training_batches
    return trainer.fit_loop.epoch_loop.total_batch_idx / batches if batches else 0.0


def speed(trainer: L.Trainer) -> str:
    """Return the images per second of the run so far, as a part of a line."""
    found = [one for one in trainer.callbacks if isinstance(one, Throughput)]  # type: ignore[attr-defined]
    return f", {found[0].images_per_second:.0f} images/s" if found and found[0].images else ""
