"""The bits/dim of each test image, as a file."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import lightning as L
import torch
from torch import Tensor

from flows.training.lit import LitFlow
from flows.training.metric import PerImage
from flows.whole_file import whole_file

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import Batch

COLUMNS = "index", "bits_per_dim", "draws", "crc32"
"""Row of the image in the test set, bits/dim averaged over the draws, number of draws, checksum of the pixels."""


class ImageScores(L.Callback):
    """After the test, write one row per test image. `scripts/collect.py --compare` pairs the rows of two runs.

    Args:
        path: of the CSV file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._checksums = PerImage()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with no image."""
        self._checksums = PerImage().to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: "Batch",
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the checksums of a batch."""
        self._checksums.update(checksums(batch.images), batch.index)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        assert isinstance(pl_module, LitFlow) and pl_module.test_average is not None
        found = self._checksums.compute()[0].reshape(-1)
        if trainer.is_global_zero:
            average = pl_module.test_average
            with whole_file(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                for row, bits, checksum in zip(average.index, average.values, found, strict=True):
                    writer.writerow([int(row), f"{bits:.6f}", pl_module.num_test_draws, int(checksum)])


def checksums(images: Tensor) -> Tensor:
    """Return the CRC-32 of the pixels of each image, int64 `(B,)`, on the device of the images."""
    found = [crc32(image.contiguous().numpy()) for image in images.cpu()]
    return torch.tensor(found, dtype=torch.long, device=images.device)
