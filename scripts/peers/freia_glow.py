"""A Glow that is assembled from the blocks of FrEIA (Ardizzone et al. 2018). FrEIA itself has no Glow."""

from collections.abc import Sequence
from functools import partial

from FrEIA.modules import AllInOneBlock, InvertibleModule, IRevNetDownsampling
from torch import Tensor

from flows.bijection import Bijection
from flows.bijections.chain import Chain
from flows.context import Context
from flows.image_flow import ImageFlow
from scripts.peers.frame import framed, network


class FromFreia(Bijection):
    """A module of FrEIA under the contract of this project."""

    def __init__(self, module: InvertibleModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        (z,), log_det = self.module((x,))
        return z, x.new_zeros(len(x)) + log_det

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        return self.module((z,), rev=True)[0][0]


def freia_glow(image_shape: Sequence[int], num_levels: int, num_steps: int, hidden_channels: int) -> ImageFlow:
    """Return FrEIA's coupling blocks in the multi-scale frame of this project.

    A block is an affine coupling, a scale and shift of each channel, and a fixed rotation of the channels. FrEIA has no
    learned 1x1 convolution.

    Args:
        image_shape: (C, H, W).
        num_levels: L.
        num_steps: K, blocks per level.
        hidden_channels: width of the couplings' networks.
    """

    def level(shape: tuple[int, int, int]) -> Chain:
        channels, height, width = shape
        squeezed = 4 * channels, height // 2, width // 2
        subnet = partial(network, hidden_channels=hidden_channels)
        blocks = [AllInOneBlock([squeezed], subnet_constructor=subnet, permute_soft=True) for _ in range(num_steps)]
        return Chain(*map(FromFreia, [IRevNetDownsampling([shape]), *blocks]))

    return framed(image_shape, num_levels, level)
