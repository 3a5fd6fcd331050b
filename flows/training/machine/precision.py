"""The precision that a flow may train in."""

import torch
from torch import nn

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")
"""Lightning's precisions that compute in float32 at least, except in networks."""


def check_precision(flow: nn.Module, precision: str) -> None:
    """Raise ValueError if weights, or the trainer's `precision`, are below float32 outside networks."""
    low = {str(p.dtype) for p in flow.parameters() if p.is_floating_point() and torch.finfo(p.dtype).bits < 32}
    if precision not in PRECISIONS:
        low.add(f"trainer.precision={precision}")
    if low:
        raise ValueError(
            f"dequantization noise and log-determinants need float32, which {', '.join(sorted(low))} would lower: take "
            "trainer.precision=bf16-mixed, which lowers the networks only, or 32-true"
        )
