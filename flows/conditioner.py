"""The networks inside couplings and splits: they read one part of the channels and steer the other."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from flows.actnorm import ActNorm
from flows.conv_relu import ScaledConv2d, conv_relu
from flows.hooks import is_hooked
from flows.initialize import DataDependent, standardizing_affine


class ActNormConv2d(ScaledConv2d, DataDependent):
    """A convolution followed by activation normalisation (Glow's hidden layers)."""

    def initialize(self, x: Tensor) -> None:
        assert self.bias is not None
        bias, log_scale = standardizing_affine(F.conv2d(x, self.weight, padding=self.padding))
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
    """Return what clamps a conditioner's input to [-limit, limit], nothing for None.

    Without it, a value far from all that was trained on makes a shift and a scale far from all, and so on from step to
    step, until a rare image overflows and training with it. The flow stays invertible: conditioners need not be.

    Raises:
        ValueError: if the limit is not positive.
    """
    if limit is None:
        return []
    if not limit > 0:
        raise ValueError(f"input_limit is a positive number or null, got {limit}")
    return [nn.Hardtanh(-limit, limit)]


class ConvNet(nn.Sequential):
    """Glow's conditioner: 3x3, 1x1 and a zero-initialised 3x3 convolution, with ReLU between.

    Args:
        hidden_conv: the hidden layers' convolution, `(in, out, kernel_size) -> module`.
        input_limit: as for `limited`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        hidden_conv: Callable[[int, int, int], nn.Module],
        input_limit: float | None = None,
    ) -> None:
        super().__init__(
            *limited(input_limit),
            hidden_conv(in_channels, hidden_channels, 3),
            nn.ReLU(inplace=True),
            hidden_conv(hidden_channels, hidden_channels, 1),
            nn.ReLU(inplace=True),
            ZeroConv2d(hidden_channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or any(map(is_hooked, self)):
            for layer in self:
                x = layer(x)
            return x
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Hardtanh) else x
        return conv_relu(x, [layer for layer in self if isinstance(layer, nn.Conv2d)])


def plain_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a same-size convolution with torch's default initialisation."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


HIDDEN_CONVS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "actnorm": ActNormConv2d,
    "plain": plain_conv,
}
"""Choices of Glow's `conditioner`: how its hidden layers are normalised."""


class ResidualBlock(nn.Module):
    """`h + conv(relu(norm(conv(relu(norm(h))))))` with weight-normalised 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ActNorm(channels) for _ in range(2))
        self.convs = nn.ModuleList(weight_norm(plain_conv(channels, channels, 3)) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        update = h
        for norm, conv in zip(self.norms, self.convs, strict=True):
            update = conv(F.relu(norm(update)[0]))
        return h + update


class ResNet(nn.Module):
    """RealNVP's conditioner: residual blocks with weight normalisation, the last convolution zero at start.

    Activation normalisation stands where the paper has batch normalisation, so that training and test
    compute the same function (RealNVP, sections 3.7 and 4.1).
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.enter = weight_norm(plain_conv(in_channels, hidden_channels, 3))
        self.blocks = nn.Sequential(*(ResidualBlock(hidden_channels) for _ in range(num_blocks)))
        self.norm = ActNorm(hidden_channels)
        self.leave = ZeroConv2d(hidden_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.norm(self.blocks(self.enter(x)))
        return self.leave(F.relu(h))
