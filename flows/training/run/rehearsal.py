"""A rehearsal of a run: one training step and one validation batch."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from flows.training.callbacks.graceful_stop import GracefulStop
from flows.training.callbacks.image_grids import ImageGrids
from flows.training.callbacks.image_scores import ImageScores
from flows.training.callbacks.journal import Journal
from flows.training.callbacks.progress import Progress
from flows.training.callbacks.quality import Quality
from flows.training.lit import LitFlow

LEFT_OUT = ModelCheckpoint, GracefulStop, ImageGrids, ImageScores, Journal, Progress, Quality
"""Callbacks that write files, draw samples or tell about a whole run."""

ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "max_epochs": -1,
    "max_time": None,
    "check_val_every_n_epoch": None,
    "val_check_interval": 1_000_000,
    "limit_val_batches": 1,
    "log_every_n_steps": 1,
    "enable_progress_bar": False,
    "logger": False,
}
"""Settings of a trainer that takes one step, and then validates one batch."""


class Rehearsal(L.Callback):
    """Watches one step and one validation batch."""

    def __init__(self) -> None:
        self.step_seconds = self.validation_seconds = 0.0
        self._since = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of the step; an optimizer step may take several batches."""
        if batch_idx == 0:
            self._since = now(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it."""
        self.step_seconds = now(pl_module) - self._since

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the clock of the validation."""
        self._since = now(pl_module)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop it."""
        self.validation_seconds = now(pl_module) - self._since

    def lines(self, trainer: L.Trainer, lit: LitFlow) -> Iterator[str]:
        """Go through the lines of a report, once the step is taken."""
        loss = trainer.callback_metrics["train/bits_per_dim"].item()
        assert lit.validation is not None
        _, average = lit.validation
        yield f"one training step            {self.step_seconds:.2f} s, {loss:.3f} bits/dim"
        told = f"{average.num_images:,} images, {average.mean:.3f} bits/dim"
        yield f"one validation batch         {self.validation_seconds:.2f} s, {told}"
        where = "of this process" if on_cpu(lit) else "on the GPU"
        yield f"GiB at the peak              {peak_gib(lit.device):.2f} {where}"


def for_rehearsal(callbacks: Iterable[L.Callback], folder: Path) -> list[L.Callback]:
    """Return the callbacks of a run that take part in its rehearsal, which stores nothing."""
    kept = [callback for callback in callbacks if not isinstance(callback, LEFT_OUT)]
    return [*kept, ModelCheckpoint(dirpath=folder, save_top_k=0)]


def on_cpu(lit: L.LightningModule) -> bool:
    """Return whether a model is on the CPU."""
    return lit.device.type == "cpu"


def now(lit: L.LightningModule) -> float:
    """Return the time in seconds when the device is done with its work."""
    if not on_cpu(lit):
        torch.cuda.synchronize(lit.device)
    return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """Return the most memory so far: of the tensors on a GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
