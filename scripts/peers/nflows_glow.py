"""A Glow that is assembled from the layers of nflows (Durkan et al. 2020). nflows itself has no Glow."""

import warnings
from collections.abc import Sequence

import torch
from nflows.transforms import (
    ActNorm,
    AffineCouplingTransform,
    CompositeTransform,
    OneByOneConvolution,
    SqueezeTransform,
    Transform,
)
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.context import Context
from flows.image_flow import ImageFlow
from scripts.peers.frame import framed, network

warnings.filterwarnings("ignore", message="torch.triangular_solve is deprecated")


class FromNflows(Bijection):
    """A transform of nflows under the contract of this project."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        return self.transform(x)

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        return self.transform.inverse(z)[0]


class WithContext(nn.Module):
    """A network that can be called in the way of nflows, with a context."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: None) -> Tensor:
        return self.network(x)


def nflows_glow(image_shape: Sequence[int], num_levels: int, num_steps: int, hidden_channels: int) -> ImageFlow:
    """Return the actnorm, 1x1 convolution and affine coupling of nflows in the multi-scale frame of this project.

    Args:
        image_shape: (C, H, W).
        num_levels: L.
        num_steps: K, steps per level.
        hidden_channels: width of the couplings' networks.
    """

    def level(shape: tuple[int, int, int]) -> FromNflows:
        channels = 4 * shape[0]
        mask = torch.arange(channels) >= channels // 2
        transforms = [SqueezeTransform()]
        for _ in range(num_steps):
            transforms += [
                ActNorm(channels),
                OneByOneConvolution(channels, using_cache=True),  # of its inverse, outside of training
                AffineCouplingTransform(mask, lambda ins, outs: WithContext(network(ins, outs, hidden_channels))),
            ]
        return FromNflows(CompositeTransform(transforms))

    return framed(image_shape, num_levels, level)
