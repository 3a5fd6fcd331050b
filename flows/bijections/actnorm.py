"""Activation normalisation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flows.bijections.linear import ChannelLinear
from flows.context import Context
from flows.initialize import DataDependent, standardizing_affine


class ActNorm(ChannelLinear, DataDependent):
    """`z = (x + bias) * exp(log_scale)` per channel, set to zero mean and unit variance on the first batch.

    (Glow, section 3.1, in the order of the original release: shift, then scale.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def initialize(self, x: Tensor) -> None:
        bias, log_scale = standardizing_affine(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)

    @staticmethod
    def affine(layers: Sequence["ActNorm"]) -> tuple[Tensor, Tensor]:
        scales = torch.stack([layer.log_scale for layer in layers]).exp()
        return torch.diag_embed(scales), torch.stack([layer.bias for layer in layers]) * scales

    @classmethod
    def log_abs_det(cls, layers: Sequence["ActNorm"]) -> Tensor:
        return torch.stack([layer.log_scale for layer in layers]).sum(1)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        z = (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]
        return z, (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        return z * (-self.log_scale).exp()[:, None, None] - self.bias[:, None, None]
