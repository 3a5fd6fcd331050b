"""The progress bar of a run."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

NAMES = {
    "train/bits_per_dim": "bits/dim",
    "val/bits_per_dim": "val",
    "train/images_per_second": "images/s",
}


class Progress(RichProgressBar):
    """Lightning's progress bar with short names: bits/dim, validation bits/dim, images/s."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the metrics beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[key] for key, name in NAMES.items() if key in metrics}

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the text before the bar; a run that is limited by time has no number of epochs."""
        return super()._get_train_description(current_epoch).replace("/-2", "")
