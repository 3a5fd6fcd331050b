"""Averaged weights, which are validated, sampled from, stored and tested."""

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class PowerEMA(WeightAveraging):
    """Average the weights over a fixed fraction of the training so far, with no decay to tune.

    The decay at update n is (1 - 1/n)^(power + 1), so the profile of the average is n^power for any length of the run
    (Karras et al. 2024, arXiv:2312.02696, section 3.1). With power 16, its standard deviation is 5% of the run. Buffers
    are copied, never averaged: a permutation stays a permutation.

    Args:
        power: larger follows the weights more closely.

    Raises:
        ValueError: if power is not at least 0.
    """

    def __init__(self, power: float = 16.0) -> None:
        if not power >= 0:
            raise ValueError(f"the power of the weight average is at least 0, got {power}")

        def update(averages: list[Tensor], weights: list[Tensor], num_averaged: Tensor) -> None:
            decay = (1 - 1 / (float(num_averaged) + 1)) ** (power + 1)
            torch._foreach_lerp_(averages, weights, 1 - decay)

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the model.

        Raises:
            ValueError: if Lightning itself would convert the model to float64, because it does so after the copy.
        """
        if trainer.precision == "64-true":
            raise ValueError(
                f"weights cannot be averaged under trainer.precision={trainer.precision}: set callbacks.ema=null, or "
                "take a mixed precision"
            )
        super().setup(trainer, pl_module, stage)
