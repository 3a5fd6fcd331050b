"""This project's parts, assembled with the choices of other libraries: such a ratio compares code, not models."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1LU
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import Affine
from flows.bijections.folded import Folded
from flows.bijections.linear import ChannelLinear
from flows.bijections.mask import ChannelMask
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import BoundedScale, SigmoidScale
from flows.image_flow import ImageFlow
from flows.networks.conditioner import ConvNet, plain_conv
from flows.prior import Split
from scripts.peers.frame import framed


class FixedRotation(ChannelLinear):
    """A random rotation of the channels that is not trained (FrEIA's `permute_soft`)."""

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("weight", nn.init.orthogonal_(torch.empty(channels, channels)))

    @staticmethod
    def affine(layers: Sequence["FixedRotation"]) -> tuple[Tensor, Tensor]:
        weights = torch.stack([layer.weight for layer in layers])
        return weights, weights.new_zeros(weights.shape[:2])

    @classmethod
    def log_abs_det(cls, layers: Sequence["FixedRotation"]) -> Tensor:
        return layers[0].weight.new_zeros(len(layers))


class LearnedGaussian(nn.Module):
    """Mean and log sigma of each entry, whatever the image is (the base distributions of normflows).

    Args:
        shape: (C, H, W) of the latents.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.h = nn.Parameter(torch.zeros(1, 2 * channels, height, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.h


def assembled(
    image_shape: Sequence[int],
    num_levels: int,
    num_steps: int,
    hidden_channels: int,
    *,
    make_mixing: Callable[[int], ChannelLinear],
    make_scale: Callable[[int], nn.Module],
    learned_priors: bool,
) -> ImageFlow:
    """Return a Glow with plain networks.

    Args:
        image_shape: (C, H, W).
        num_levels: L.
        num_steps: K, steps per level.
        hidden_channels: width of the couplings' networks.
        make_mixing: builds what mixes the channels after an actnorm.
        make_scale: builds the scale function of a coupling.
        learned_priors: whether all latents have learned Gaussians; else they are N(0, I).
    """

    def make_network(in_channels: int, out_channels: int) -> ConvNet:
        made = ConvNet(in_channels, out_channels, hidden_channels, plain_conv)
        # The networks of the peers end in a convolution without a scale.
        made[-1] = nn.utils.skip_init(nn.Conv2d, hidden_channels, out_channels, 3, padding=1)
        for parameter in made[-1].parameters():
            nn.init.zeros_(parameter)
        return made

    def level(shape: tuple[int, int, int]) -> Chain:
        channels, parts = 4 * shape[0], []
        for _ in range(num_steps):
            mask = ChannelMask(channels)
            parts += [
                Folded(ActNorm(channels), make_mixing(channels)),
                Coupling(channels, mask, Affine(make_scale(mask.part_channels)), make_network),
            ]
        return Chain(Squeeze(), *parts)

    def split(shape: tuple[int, int, int]) -> Split:
        return Split(2 * shape[0], LearnedGaussian(shape) if learned_priors else None)

    return framed(image_shape, num_levels, level, split, "position" if learned_priors else "standard")


AS_PEERS: dict[str, Callable[..., ImageFlow]] = {
    "normflows": partial(assembled, make_mixing=InvertibleConv1x1LU, make_scale=SigmoidScale, learned_priors=True),
    "nflows": partial(assembled, make_mixing=InvertibleConv1x1LU, make_scale=SigmoidScale, learned_priors=False),
    "FrEIA": partial(assembled, make_mixing=FixedRotation, make_scale=BoundedScale, learned_priors=False),
}
"""Builders with the choices of each library, by its name."""
