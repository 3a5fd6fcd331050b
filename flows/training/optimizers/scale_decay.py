"""Weight decay on scales only: scales of weight-normalised convolutions and of couplings."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

SCALES = ("parametrizations.weight.original0", "weight_g", "scale.range")
"""Names of scales in torch's new and old weight normalisation, and in `flows.bijections.scale.LearnedTanhScale`."""


def decay_scales(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    optimizer: Callable[[list[dict[str, Any]], float], Optimizer],
    lr: float,
    weight_decay: float,
) -> Optimizer:
    """Make an optimizer whose weight decay acts on the scales only (RealNVP, section 4.1, and its release).

    Args:
        named_parameters: all parameters.
        optimizer: makes an optimizer from parameter groups and learning rate.
        lr: learning rate.
        weight_decay: w for a penalty of w / 2 * scale^2 on the loss, which is in bits/dim.

    Raises:
        ValueError: if weight_decay is negative or not finite.
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"Invalid weight_decay value: {weight_decay}")
    named = list(named_parameters)
    scales = [(name, p) for name, p in named if name.endswith(SCALES)]
    others = [(name, p) for name, p in named if not name.endswith(SCALES)]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": scales, "weight_decay": weight_decay}]
    return optimizer([group for group in groups if group["params"]], lr)
