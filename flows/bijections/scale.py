"""Scale functions: how a conditioner's raw output becomes the log scale of a coupling."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.hooks import is_hooked
from flows.overriding import is_newer


class PlainScale(nn.Module, ABC):
    """A scale function without parameters, the same for every entry."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """Return log scale, the shape of `raw`."""

    @abstractmethod
    def slope(self, log_scale: Tensor) -> Tensor:
        """Return the derivative of `forward` where its value is `log_scale`."""


def knows_slope(scale: nn.Module) -> TypeGuard[PlainScale]:
    """Return whether the scale's `slope` is the derivative of its `forward`, with no other gradients or hooks."""
    return (
        isinstance(scale, PlainScale)
        and not is_newer(type(scale), "forward", than="slope")
        and not is_hooked(scale)
        and next(scale.parameters(), None) is None
    )


class SigmoidScale(PlainScale):
    """scale = sigmoid(raw + 2): Glow's, always below 1."""

    def forward(self, raw: Tensor) -> Tensor:
        return F.logsigmoid(raw + 2)

    def slope(self, log_scale: Tensor) -> Tensor:
        return -log_scale.expm1()


class BoundedScale(PlainScale):
    """scale = exp(4 tanh(raw / 4)): the identity at start, between exp(-4) and exp(4)."""

    LIMIT = 4.0

    def forward(self, raw: Tensor) -> Tensor:
        return self.LIMIT * torch.tanh(raw / self.LIMIT)

    def slope(self, log_scale: Tensor) -> Tensor:
        return 1 - (log_scale / self.LIMIT).square()


class LearnedTanhScale(nn.Module):
    """scale = exp(range * tanh(raw)), with a learned range per channel, 1 at start (RealNVP, section 4.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.range = nn.Parameter(torch.ones(channels))

    def forward(self, raw: Tensor) -> Tensor:
        """Return log scale, the shape of `raw`."""
        return self.range[:, None, None] * torch.tanh(raw)


SCALES: dict[str, Callable[[int], nn.Module]] = {
    "sigmoid": SigmoidScale,
    "tanh4": BoundedScale,
    "learned_tanh": LearnedTanhScale,
}
"""Choices of `scale`."""
