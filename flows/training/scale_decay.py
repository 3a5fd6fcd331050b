"""Weight decay on the scales of weight-normalised convolutions alone."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

SCALE = "parametrizations.weight.original0"
"""How torch's weight normalisation calls them."""


def decay_scales(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    optimizer: Callable[[list[dict[str, Any]]], Optimizer],
    weight_decay: float,
) -> Optimizer:
    """Make an optimizer whose weight decay touches the scales only (RealNVP, section 4.1).

    Args:
        named_parameters: all parameters.
        optimizer: parameter groups to optimizer.
        weight_decay: coefficient on the scales.
    """
    named = list(named_parameters)
    scales = [(name, p) for name, p in named if name.endswith(SCALE)]
    others = [(name, p) for name, p in named if not name.endswith(SCALE)]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": scales, "weight_decay": weight_decay}]
    return optimizer([group for group in groups if group["params"]])
