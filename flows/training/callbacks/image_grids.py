"""Pictures of a flow in training: samples, reconstructions and the real images beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from flows.arguments import require_positive
from flows.sampler import Sampler
from flows.training.given import given
from flows.training.grid import enlarged, image_grid, save_png, temperature_rows
from flows.training.lit import LitFlow
from flows.training.loops import is_last_step

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import Batch


class ImageGrids(L.Callback):
    """Draw at validation: samples (one row per temperature, the same seeds every time) and reconstructions.

    Samples of a class-conditional flow take the classes in turn. A flow that is conditioned on images gets the
    conditions of the real images. Its samples are shown below these conditions and above the real images.

    Pictures are written to `DIR/samples/step-N.png` and `DIR/reconstructions/step-N.png` (real images above their
    reconstructions). They also go to W&B and TensorBoard if the run logs there. `DIR/real.png` holds real validation
    images. List this callback before weight averaging, so that it draws with the averaged weights.

    Args:
        directory: where to write.
        temperatures: one row of samples for each temperature.
        num_columns: samples per row.
        every_n_epochs: draw at each n-th epoch, and at the last validation.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self, directory: str, temperatures: Sequence[float], num_columns: int, every_n_epochs: int = 1
    ) -> None:
        if not temperatures or not all(0 <= temperature < math.inf for temperature in temperatures):
            raise ValueError(
                f"temperatures are at least 0 and finite, and at least one of them, got {list(temperatures)}"
            )
        require_positive(num_columns=num_columns, every_n_epochs=every_n_epochs)
        self.directory = Path(directory)
        self.temperatures = list(temperatures)
        self.num_columns = num_columns
        self.every_n_epochs = every_n_epochs
        self._real: Batch | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the real images, and draw them."""
        val_set = trainer.datamodule.val_set  # type: ignore[attr-defined]
        rows = min(len(val_set), self.num_columns * len(self.temperatures))
        self._real = move_data_to_device(val_set[list(range(min(rows, self.num_columns)))], pl_module.device)
        if trainer.is_global_zero:
            save_png(image_grid(val_set[list(range(rows))].images, self.num_columns), self.directory / "real.png")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw during validation, when the model has the averaged weights."""
        is_due = trainer.current_epoch % self.every_n_epochs == 0 or is_last_step(trainer)
        if not trainer.is_global_zero or not is_due or self._real is None:
            return
        assert isinstance(pl_module, LitFlow)
        flow, real = pl_module.flow, self._real.images
        known = given(flow, self._real)
        with torch.no_grad():
            reconstructed = flow.decode(flow.encode(real, **known), **known)
        seeds = range(len(real))
        above, below = [], []
        if "condition" in known:
            above, below = [enlarged(known["condition"], flow.image_shape)], [real]
        elif flow.num_classes is not None:
            known["label"] = torch.arange(len(seeds), device=real.device) % flow.num_classes
        samples = temperature_rows(Sampler(flow), seeds, self.temperatures, **known)
        self._show(trainer, "samples", torch.cat([*above, samples, *below]))
        self._show(trainer, "reconstructions", torch.cat([real, reconstructed]))

    def _show(self, trainer: L.Trainer, name: str, images: Tensor) -> None:
        assert self._real is not None
        picture = image_grid(images, len(self._real.images))
        save_png(picture, self.directory / name / f"step-{trainer.global_step:08d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [picture.float() / 255], step=trainer.global_step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, picture, trainer.global_step)
