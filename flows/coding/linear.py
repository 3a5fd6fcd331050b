"""Channel-linear maps of points."""

import torch
from torch import Tensor

from flows.bijections.linear import WeightAndBias
from flows.coding.cells import back_through, points_near, through, values_at
from flows.coding.stack import BitStack


class Lifted:
    """`z = W x + b` with W = P L U D: P, L and U add whole points to one channel at a time, which costs no bits.

    L and U have ones on their diagonals, and D is diagonal. (Lifting: Sweldens 1996; for local bits-back, Ho et al.
    2019, section 3.4.2.)

    Args:
        affine: W `(C, C)` and b `(C,)`.
    """

    def __init__(self, affine: WeightAndBias) -> None:
        weight, bias = (part.detach().double() for part in affine)
        permutation, self.lower, upper = torch.linalg.lu(weight)
        diagonal = upper.diagonal()
        self.upper = upper / diagonal
        self.scales = diagonal.abs()[:, None, None]
        self.signs = diagonal.sign().long()[:, None, None]
        self.order = permutation.argmax(1)
        self.shift = points_near(bias)[:, None, None]

    def through(self, points: Tensor, stack: BitStack) -> Tensor:
        """Map points `(B, C, H, W)`."""
        n = through(self.scaled, points, stack, everywhere(points)) * self.signs
        channels = range(n.shape[1])
        for channel in channels:
            n[:, channel] += self.of_others(self.upper, n, channel, slice(channel + 1, None))
        for channel in reversed(channels):
            n[:, channel] += self.of_others(self.lower, n, channel, slice(channel))
        return n[:, self.order] + self.shift

    def back_through(self, points: Tensor, stack: BitStack) -> Tensor:
        """Undo `through`."""
        n = (points - self.shift)[:, self.order.argsort()]
        channels = range(n.shape[1])
        for channel in channels:
            n[:, channel] -= self.of_others(self.lower, n, channel, slice(channel))
        for channel in reversed(channels):
            n[:, channel] -= self.of_others(self.upper, n, channel, slice(channel + 1, None))
        return back_through(self.scaled, n * self.signs, stack, everywhere(n))

    def scaled(self, x: Tensor) -> Tensor:
        """Return what D makes of `x`, without its signs."""
        return x * self.scales

    def of_others(self, weight: Tensor, n: Tensor, channel: int, others: slice) -> Tensor:
        """Return what other channels add to one, in whole points: int64 `(B, H, W)`."""
        return points_near((weight[channel, others, None, None] * values_at(n[:, others])).sum(1))


def everywhere(points: Tensor) -> Tensor:
    """Return that all entries are mapped."""
    return torch.ones_like(points, dtype=torch.bool)
