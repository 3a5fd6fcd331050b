"""Bijections that mix channels linearly, the same at every pixel: they fold into one 1x1 convolution."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.initialize import DataDependent
from flows.memory_flat import backward_through


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switch autocast off on the device of `x`, where it has any (the meta device has none)."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


class ChannelLinear(Bijection):
    """`z = W x + b` at every pixel, with `W` a `(C, C)` matrix.

    Matrices stay at the precision of the parameters under autocast, and the inverse is computed in float64.
    """

    channels: int

    at_hand: tuple[Tensor, Tensor] | None = None
    """W^-1 and -W^-1 b while `inverses_at_hand` keeps them."""

    @abstractmethod
    def affine(self) -> tuple[Tensor, Tensor]:
        """Return `W` `(C, C)` and `b` `(C,)`."""

    def log_abs_det(self) -> Tensor:
        """Return the scalar log|det W|, in nats a pixel."""
        weight, _ = self.affine()
        return torch.linalg.slogdet(weight.double()).logabsdet.to(weight.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        with full_precision(x):
            z = apply_linear(x, *self.affine())
            return z, (x.shape[2] * x.shape[3] * self.log_abs_det()).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        self.check_shape(z)
        with full_precision(z):
            return apply_linear(z, *(self.at_hand or invert([self.affine()])[0]))

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor, Tensor]:
        """As `Bijection.vjp`, with no second forward pass: the gradients of a linear map are products of matrices."""
        with torch.enable_grad(), full_precision(z):
            weight, bias, log_abs_det = *self.affine(), self.log_abs_det()
        with torch.no_grad(), full_precision(z):
            x = apply_linear(z, *invert([(weight, bias)])[0])
            grad_x = apply_linear(grad_z, weight.t(), None)
            rows = grad_z.transpose(0, 1).flatten(1)
            grad_weight = rows @ x.transpose(0, 1).flatten(1).t()
            grad_log_abs_det = z.shape[2] * z.shape[3] * grad_log_det.sum()
        backward_through((weight, bias, log_abs_det), (grad_weight, rows.sum(1), grad_log_abs_det))
        return x, grad_x


def apply_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `weight @ x + bias` at every pixel of `x` `(B, C, H, W)`."""
    return F.conv2d(x, weight[:, :, None, None], bias)


def invert(affines: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return W^-1 and -W^-1 b of every (W, b), all `(C, C)` and `(C,)`, computed together in float64."""
    weights, biases = (torch.stack(parts).double() for parts in zip(*affines, strict=True))
    inverses = torch.linalg.inv(weights)
    offsets = -(inverses @ biases[..., None])[..., 0]
    dtype = affines[0][0].dtype
    return list(zip(inverses.to(dtype), offsets.to(dtype), strict=True))


@contextmanager
def inverses_at_hand(module: nn.Module) -> Iterator[None]:
    """Compute the inverses of all matrices in `module` once, and forget them at the end.

    Nothing outlives the block: weights may change without notice afterwards, as averaging them does.
    """
    by_size: dict[int, list[ChannelLinear]] = {}
    for layer in outermost_linears(module):
        by_size.setdefault(layer.channels, []).append(layer)
    layers = [layer for group in by_size.values() for layer in group]
    try:
        for group in by_size.values():
            with full_precision(next(group[0].parameters(), torch.empty(0))):
                inverses = invert([layer.affine() for layer in group])
            for layer, inverse in zip(group, inverses, strict=True):
                layer.at_hand = inverse
        yield
    finally:
        for layer in layers:
            layer.at_hand = None


def outermost_linears(module: nn.Module) -> Iterator["ChannelLinear"]:
    """Return the layers in `module` that are inverted as matrices, not those folded into others."""
    for child in module.children():
        if isinstance(child, ChannelLinear):
            if type(child).inverse is ChannelLinear.inverse:
                yield child
        else:
            yield from outermost_linears(child)


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

    def affine(self) -> tuple[Tensor, Tensor]:
        dtype = torch.get_default_dtype()
        weight = torch.eye(self.channels, dtype=dtype, device=self.order.device)[self.order]
        return weight, weight.new_zeros(self.channels)

    def log_abs_det(self) -> Tensor:
        return torch.zeros((), device=self.order.device)

    vjp = Bijection.vjp

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

    def affine(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.weight.new_zeros(self.channels)


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

    def affine(self) -> tuple[Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())
        return self.permutation @ lower @ upper, self.log_s.new_zeros(self.channels)

    def log_abs_det(self) -> Tensor:
        return self.log_s.sum()


class Folded(ChannelLinear, DataDependent):
    """Neighbouring channel-linear bijections run as one 1x1 convolution: W = W_n ... W_2 W_1."""

    def __init__(self, *members: ChannelLinear) -> None:
        super().__init__()
        self.channels = members[0].channels
        self.members: Sequence[ChannelLinear] = nn.ModuleList(members)  # type: ignore[assignment]

    def affine(self) -> tuple[Tensor, Tensor]:
        first, *rest = self.members
        weight, bias = first.affine()
        for member in rest:
            next_weight, next_bias = member.affine()
            next_weight = next_weight.to(weight.dtype)
            weight, bias = next_weight @ weight, next_weight @ bias + next_bias
        return weight, bias

    def log_abs_det(self) -> Tensor:
        return torch.stack([member.log_abs_det() for member in self.members]).sum()

    def initialize(self, x: Tensor) -> None:
        for member in self.members:
            x, _ = member(x)
