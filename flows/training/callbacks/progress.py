"""The progress bar of a run."""

import logging
import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

from flows.training.callbacks.time_left import TimeLeft, duration

NAMES = {
    "train/bits_per_dim": "bits/dim",
    "val/bits_per_dim": "val",
    "train/images_per_second": "images/s",
}
"""The metrics beside the bar, and their short names."""


class Progress(ProgressBar):
    """A bar for the whole run, whichever limit ends it, with the time left and a few metrics. Only on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        self._time_left: TimeLeft | None = None
        self._redirected: list[logging.StreamHandler[Any]] = []

    @property
    def is_enabled(self) -> bool:
        """Whether the bar is shown."""
        return self._enabled and Console(file=sys.stdout).is_terminal

    def disable(self) -> None:
        """Show no bar; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        if not self.is_enabled:
            return
        self._time_left = TimeLeft(trainer, pl_module)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
            console=Console(file=sys.stdout),
        )
        self._task = self._bar.add_task("training", total=1.0, told="")
        before = sys.stdout
        self._bar.start()
        handlers = (one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler))
        self._redirected = [one for one in handlers if one.stream is before]
        for handler in self._redirected:  # so that lines of the log are shown above the bar
            handler.setStream(sys.stdout)
        self._show(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Move the bar."""
        self._show(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that the run validates."""
        if self._bar is not None:
            self._bar.update(self._task, description="validating")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with training."""
        if self._bar is not None:
            self._bar.update(self._task, description="training")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the bar as it is."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the bar as it is."""
        self._stop()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the bar as it is."""
        self._stop()

    def _show(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._bar is None or self._time_left is None:
            return
        metrics = trainer.progress_bar_metrics
        told = [f"{name} {metrics[key]:.4g}" for key, name in NAMES.items() if key in metrics]
        left = self._time_left.seconds()
        told += [] if left is None else [f"{duration(left)} left"]
        self._bar.update(self._task, completed=self._time_left.done(), told=", ".join(told))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            for handler in self._redirected:
                handler.setStream(sys.stdout)
