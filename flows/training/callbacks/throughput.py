"""How fast training goes, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from flows.training.callbacks.data_wait import DataWait
from flows.training.machine.ranks import mean_over_ranks

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import Batch


class Throughput(L.Callback):
    """Log training images per second of wall time, over all ranks; at validation, log the seconds and images so far.

    If the trainer's profiler is a `DataWait`, the part of the time that training waited for data is also logged.

    The time that validation takes is not counted, and does not count for the limits.

    Args:
        max_seconds: training ends after the step that reaches this time; None for no limit.
        max_images: training ends after the step that reaches this number of images; None for no limit.

    Raises:
        ValueError: if a limit is not positive.
    """

    def __init__(self, max_seconds: float | None = None, max_images: int | None = None) -> None:
        for name, limit in {"max_seconds": max_seconds, "max_images": max_images}.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is a number above 0, or null for no limit, got {limit}")
        self.max_seconds = max_seconds
        self.max_images = max_images
        self.done = 0.0
        """How much of the run is done according to these limits, 0 to 1: the same on all ranks."""
        self.images = 0
        self.seconds = 0.0
        self._pending_images = 0
        self._since = 0.0
        self._waited = 0.0

    @property
    def images_per_second(self) -> float:
        """Return the average over the whole run so far, resumed parts included."""
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._count(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count up to here."""
        self._count(trainer)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log seconds and images together with the result of the validation."""
        pl_module.log("train/seconds", self.seconds, batch_size=1, sync_dist=True)
        pl_module.log("train/images", float(self.images), batch_size=1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the time that validation took."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, log at logging steps, and stop at a limit."""
        self._pending_images += len(batch.images) * trainer.world_size
        self._look_at_limits(pl_module)
        if self.done == 1:
            trainer.should_stop = True
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            images, seconds, waited = self._count(trainer)
            pl_module.log("train/images_per_second", images / seconds, prog_bar=True, batch_size=1)
            if isinstance(trainer.profiler, DataWait):  # type: ignore[attr-defined]
                pl_module.log("train/data_wait", waited / seconds, batch_size=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the last steps."""
        self._count(trainer)

    def _look_at_limits(self, pl_module: L.LightningModule) -> None:
        totals = self.state_dict()
        seconds = totals["seconds"]
        if self.max_seconds is not None:  # by the mean of the ranks' clocks
            seconds = mean_over_ranks(torch.tensor(seconds, device=pl_module.device)).item()
        self.done = self.part_done(totals["images"], seconds)

    def part_done(self, images: int, seconds: float) -> float:
        """Return how much of a run is done, 0 to 1, according to the limit that is nearer."""
        parts = ((images, self.max_images), (seconds, self.max_seconds))
        return min(1.0, max((count / limit for count, limit in parts if limit is not None), default=0.0))

    def _count(self, trainer: L.Trainer) -> tuple[int, float, float]:
        """Move the pending images to the totals; return them, their seconds, and the seconds spent on waiting."""
        now = time.perf_counter()
        waited = trainer.profiler.seconds if isinstance(trainer.profiler, DataWait) else 0.0  # type: ignore[attr-defined]
        counted = self._pending_images, now - self._since, waited - self._waited
        self._pending_images, self._since, self._waited = 0, now, waited
        images, seconds, _ = counted
        if images:
            self.images += images
            self.seconds += seconds
        return counted

    def state_dict(self) -> dict[str, Any]:
        """Return the counts from which a resumed run continues."""
        pending_seconds = time.perf_counter() - self._since if self._pending_images else 0.0
        return {
            "images": self.images + self._pending_images,
            "seconds": self.seconds + pending_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; how much of the run is done follows from the present limits."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self.done = self.part_done(self.images, self.seconds)
