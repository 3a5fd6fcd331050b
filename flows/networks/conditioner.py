"""The networks inside couplings and splits: they read one part of the channels and steer the other."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.autograd import is_plain, is_transformed
from flows.bijections.actnorm import ActNorm
from flows.hooks import is_hooked
from flows.initialize import DataDependent, standardizing_affine
from flows.networks.fused_convs import (
    RELU,
    Activation,
    ScaledConv2d,
    activation_of,
    fixed_conv,
    fused_convs,
    is_same_size,
)


class ActNormConv2d(ScaledConv2d, DataDependent):
    """A convolution followed by activation normalisation (Glow's hidden layers)."""

    def initialize(self, x: Tensor) -> None:
        bias, log_scale = standardizing_affine(self._conv_forward(x, self.weight, None))
        if self.bias is not None:
            self.bias.copy_(bias)
        self.log_scale.copy_(log_scale / self.gain)


class ZeroConv2d(ScaledConv2d):
    """A 3x3 convolution that starts at zero and scales its output by exp(3 log_scale) (Glow, section 3.3)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, gain=3.0)
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def limited(limit: float | None) -> list[nn.Module]:
    """Return the layer that clamps a conditioner's input to [-limit, limit], in a list; no layer if the limit is None.

    Without a limit, an input far outside the range of training gives a shift and a scale that are also far outside it.
    This grows from step to step, until a rare image overflows, and the training with it. The flow stays invertible,
    because conditioners need not be invertible.

    Raises:
        ValueError: if the limit is not positive.
    """
    if limit is None:
        return []
    if not isinstance(limit, int | float) or not limit > 0:
        raise ValueError(f"input_limit is a positive number or null, got {limit!r}")
    return [nn.Hardtanh(-limit, limit)]


def relu() -> nn.Module:
    """Return a ReLU. A hidden channel below zero for all images gets no gradient any more: it is dead."""
    return nn.ReLU(inplace=True)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": relu, "gelu": nn.GELU}
"""Choices of `activation`: what follows the hidden layers of the networks in couplings."""


KNOWN_CONVS = (nn.Conv2d, ScaledConv2d, ActNormConv2d, ZeroConv2d)
"""The classes that `fused_convs` can replace; no subclasses of them, because these may compute something else."""


def last_convs(layers: Sequence[nn.Module]) -> tuple[list[nn.Conv2d], Activation]:
    """Return the convolutions at the end of `layers` that `fused_convs` can replace, and the activation between."""
    convs: list[nn.Conv2d] = []
    activation = (activation_of(layers[-2]) if len(layers) > 1 else None) or RELU
    for place, layer in enumerate(reversed(layers)):
        if is_hooked(layer) or (place % 2 == 1 and activation_of(layer) is not activation):
            break
        if place % 2 == 0:
            if not is_same_size(layer) or type(layer) not in KNOWN_CONVS:
                break
            convs.insert(0, layer)
    return convs, activation


def in_turn(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Run layers one after the other; the convolutions at the end go to `fused_convs` if it can replace them."""
    differentiable = torch.is_grad_enabled() or not is_transformed()
    by_hand = differentiable and not torch.compiler.is_compiling() and not is_plain()
    convs, activation = last_convs(layers) if by_hand else ([], RELU)
    for layer in layers[: len(layers) - max(0, 2 * len(convs) - 1)]:
        x = layer(x)
    return fused_convs(x, convs, activation) if convs else x


class ConvNet(nn.Sequential):
    """Glow's conditioner: 3x3, 1x1 and a zero-initialised 3x3 convolution, with an activation between.

    Layers may be replaced, added and wrapped: only those that `fused_convs` knows are handed to it.

    Args:
        hidden_conv: the hidden layers' convolution, `(in, out, kernel_size) -> module`.
        input_limit: as for `limited`.
        activation: makes the layer after each hidden one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        hidden_conv: Callable[[int, int, int], nn.Module],
        input_limit: float | None = None,
        activation: Callable[[], nn.Module] = relu,
    ) -> None:
        super().__init__(
            *limited(input_limit),
            hidden_conv(in_channels, hidden_channels, 3),
            activation(),
            hidden_conv(hidden_channels, hidden_channels, 1),
            activation(),
            ZeroConv2d(hidden_channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return in_turn(list(self), x)


def plain_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a same-size convolution with torch's default initialisation."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


HIDDEN_CONVS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "actnorm": ActNormConv2d,
    "plain": plain_conv,
}
"""Choices of Glow's `conditioner`: how its hidden layers are normalised."""


class WeightNormConv2d(nn.Module):
    """A same-size 3x3 convolution with kernels g v / |v|, one per output channel (Salimans & Kingma 2016).

    It is the same as a convolution under torch's `weight_norm`, with the same names in the state dict, but it can be
    pickled.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = plain_conv(in_channels, out_channels, 3)
        self.bias = conv.bias
        norms = nn.Parameter(torch.norm_except_dim(conv.weight.detach(), 2, 0))
        self.parametrizations = nn.ModuleDict(
            {"weight": nn.ParameterDict({"original0": norms, "original1": conv.weight})}
        )

    @property
    def weight(self) -> Tensor:
        """The kernels, `(out, in, 3, 3)`."""
        norms_and_directions: Any = self.parametrizations["weight"]
        return torch._weight_norm(norms_and_directions.original1, norms_and_directions.original0, 0)

    def folded(self) -> nn.Conv2d:
        """Return a plain convolution that computes the same."""
        return fixed_conv(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1)


class ResidualBlock(nn.Module):
    """`h + conv(act(norm(conv(act(norm(h))))))` with weight-normalised 3x3 convolutions."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.activation = activation()
        self.norms = nn.ModuleList(ActNorm(channels) for _ in range(2))
        self.convs = nn.ModuleList(WeightNormConv2d(channels, channels) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        update = h
        for norm, conv in zip(self.norms, self.convs, strict=True):
            update = conv(self.activation(norm(update)[0]))
        return h + update


class ResNet(nn.Module):
    """RealNVP's conditioner: residual blocks with weight normalisation, the last convolution zero at start.

    Activation normalisation is used where the paper has batch normalisation, so that training and test
    compute the same function (RealNVP, sections 3.7 and 4.1).

    Args:
        num_blocks: residual blocks.
        activation: makes what follows each normalisation (the paper has ReLU).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        num_blocks: int,
        activation: Callable[[], nn.Module] = relu,
    ) -> None:
        super().__init__()
        self.enter = WeightNormConv2d(in_channels, hidden_channels)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden_channels, activation) for _ in range(num_blocks)))
        self.norm = ActNorm(hidden_channels)
        self.activation = activation()
        self.leave = ZeroConv2d(hidden_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.norm(self.blocks(self.enter(x)))
        return in_turn([self.activation, self.leave], h)
