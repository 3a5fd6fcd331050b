"""Scale functions: how a conditioner's raw output becomes the log scale of a coupling."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SigmoidScale(nn.Module):
    """scale = sigmoid(raw + 2): Glow's, always below 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, raw: Tensor) -> Tensor:
        """Return log scale, the shape of `raw`."""
        return F.logsigmoid(raw + 2)


class BoundedScale(nn.Module):
    """scale = exp(4 tanh(raw / 4)): the identity at start, between exp(-4) and exp(4)."""

    LIMIT = 4.0

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, raw: Tensor) -> Tensor:
        """Return log scale, the shape of `raw`."""
        return self.LIMIT * torch.tanh(raw / self.LIMIT)


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
