"""How much of the hardware a run uses."""

import logging
from typing import Any

import lightning as L
import torch

from flows.models.registry import build
from flows.training.callbacks.throughput import Throughput
from flows.training.cost import estimate
from flows.training.lit import LitFlow

log = logging.getLogger(__name__)


class HardwareUse(L.Callback):
    """At validation, log the TFLOP/s of each device, and on a GPU the most memory so far.

    The operations are counted: those of the convolutions and matrix products of training, forward and backward.
    """

    def __init__(self) -> None:
        self._gflop: float | None = None
        self._counts = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count, the first time, and log. The time for it is that of validation, which no limit counts."""
        assert isinstance(pl_module, LitFlow)
        if self._gflop is None and self._counts:
            self._gflop = counted(pl_module.flow.spec)
            self._counts = self._gflop is not None
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput) and callback.images and self._gflop is not None:
                tflops = self._gflop * callback.images_per_second / trainer.world_size / 1000
                pl_module.log("train/tflops", tflops, batch_size=1, sync_dist=True)
        if pl_module.device.type == "cuda":
            gib = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
            pl_module.log("train/gpu_gib", gib, batch_size=1, sync_dist=True, reduce_fx="max")


def counted(spec: dict[str, Any]) -> float | None:
    """Return the GFLOP of training per image of a model; None, with a warning, if it does not run without memory."""
    try:
        with torch.device("meta"), torch.inference_mode(False), torch.enable_grad():
            return estimate(build(**spec)).gflop
    except Exception as error:  # a model of the user may look at values, which do not exist there
        log.warning("TFLOP/s are not logged, as the operations of the model cannot be counted: %s", error)
        return None
