"""How fast training goes."""

import time
from typing import Any

import lightning as L

from data import Batch


class Throughput(L.Callback):
    """Log training images a second of wall time, over all ranks, and at validation the seconds of training so far.

    The time that validation takes is left out.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._pending_images = 0
        self._since = 0.0

    @property
    def images_per_second(self) -> float:
        """Return the average over the whole run so far, resumed parts included."""
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count up to here."""
        self._count()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log, beside the validation's result."""
        pl_module.log("train/seconds", self.seconds, batch_size=1, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the time that validation took."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and log at logging steps."""
        self._pending_images += len(batch.images) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("train/images_per_second", self._count(), prog_bar=True, batch_size=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the last steps."""
        self._count()

    def _count(self) -> float:
        """Move the pending images to the totals and return their images a second."""
        now = time.perf_counter()
        images, seconds = self._pending_images, now - self._since
        self._pending_images, self._since = 0, now
        if images:
            self.images += images
            self.seconds += seconds
        return images / seconds

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on counting from."""
        pending_seconds = time.perf_counter() - self._since if self._pending_images else 0.0
        return {"images": self.images + self._pending_images, "seconds": self.seconds + pending_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
