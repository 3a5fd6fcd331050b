"""Bijections that mix channels linearly, the same at every pixel: they fold into one 1x1 convolution."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.initialize import DataDependent


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switch autocast off on the device of `x`, where it has any (the meta device has none)."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


class ChannelLinear(Bijection):
    """`z = W x + b` at every pixel, with `W` a `(C, C)` matrix.

    Matrices stay at the precision of the parameters under autocast, and the inverse is computed in float64.
    """

    channels: int

    @abstractmethod
    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return `W` `(C, C)`, `b` `(C,)` and the scalar log|det W| in nats per pixel."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        with full_precision(x):
            weight, bias, log_abs_det = self.affine()
            z = F.conv2d(x, weight[:, :, None, None], bias)
        return z, (x.shape[2] * x.shape[3] * log_abs_det).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        self.check_shape(z)
        with full_precision(z):
            weight, bias, _ = self.affine()
            inverse = torch.linalg.inv(weight.double())
            offset = -(inverse @ bias.double())
            return F.conv2d(z, inverse.to(z.dtype)[:, :, None, None], offset.to(z.dtype))


class Permutation(ChannelLinear):
    """Reorder the channels: `z[:, i] = x[:, order[i]]`; volume preserving.

    Args:
        order: `(C,)` int64, each of 0..C-1 once; kept as a buffer.
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.channels = order.numel()
        self.register_buffer("order", order)

    @classmethod
    def reversal(cls, channels: int) -> "Permutation":
        """Reverse the channels (RealNVP's alternative in Glow, section 3.2)."""
        return cls(torch.arange(channels).flip(0))

    @classmethod
    def random(cls, channels: int) -> "Permutation":
        """Draw a fixed order from torch's global generator."""
        return cls(torch.randperm(channels))

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.get_default_dtype()
        weight = torch.eye(self.channels, dtype=dtype, device=self.order.device)[self.order]
        return weight, weight.new_zeros(self.channels), weight.new_zeros(())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        return x[:, self.order], x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        self.check_shape(z)
        return z[:, self.order.argsort()]


class InvertibleConv1x1(ChannelLinear):
    """A dense invertible 1x1 convolution, orthogonal at start (Glow, section 3.2, equation 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        log_abs_det = torch.linalg.slogdet(self.weight.double()).logabsdet.to(self.weight.dtype)
        return self.weight, self.weight.new_zeros(self.channels), log_abs_det


class InvertibleConv1x1LU(ChannelLinear):
    """An invertible 1x1 convolution W = P (L + I) (U + diag(sign * exp(log_s))), orthogonal at start.

    P is fixed, L and U are strictly triangular, so that log|det W| = sum(log_s) (Glow, equations 10 and 11).
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        permutation, lower, upper = torch.linalg.lu(nn.init.orthogonal_(torch.empty(channels, channels)))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(diagonal.abs().log())

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())
        return self.permutation @ lower @ upper, self.log_s.new_zeros(self.channels), self.log_s.sum()


class Folded(ChannelLinear, DataDependent):
    """Neighbouring channel-linear bijections run as one 1x1 convolution: W = W_n ... W_2 W_1."""

    def __init__(self, *members: ChannelLinear) -> None:
        super().__init__()
        self.channels = members[0].channels
        self.members: Sequence[ChannelLinear] = nn.ModuleList(members)  # type: ignore[assignment]

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        first, *rest = self.members
        weight, bias, log_abs_det = first.affine()
        for member in rest:
            next_weight, next_bias, next_log_abs_det = member.affine()
            next_weight = next_weight.to(weight.dtype)
            weight, bias = next_weight @ weight, next_weight @ bias + next_bias
            log_abs_det = log_abs_det + next_log_abs_det
        return weight, bias, log_abs_det

    def initialize(self, x: Tensor) -> None:
        for member in self.members:
            x, _ = member(x)
