"""Dequantization noise that a second flow shapes for each image."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import Affine
from flows.bijections.mask import ChannelMask
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import BoundedScale
from flows.dequantize import GRID, Dequantize, on_grid
from flows.networks.conditioner import ActNormConv2d, ConvNet, ZeroConv2d, plain_conv, relu


class VariationalDequantize(Dequantize):
    """Spread each grey level over its bin by a flow that reads the image and is trained together with the model.

    Uniform noise goes through logit, squeeze, and a scale and a shift that depend on the image. Then it goes through
    couplings that read image and noise, and through the sigmoid back into its bin. The bound differs from the bound
    with uniform noise, and is mostly tighter; reports must say which one it is. Sampling does not need this flow.
    (Flow++: Ho et al. 2019, arXiv:1902.00275, section 3.1.)

    Args:
        num_bits: as for `Dequantize`.
        image_shape: (C, H, W), with H and W even.
        num_couplings: number of couplings in the flow of the noise.
        hidden_channels: width of the networks in these couplings.
        context_channels: number of image features that the networks read, at half the image's height and width.
        activation: makes what follows each hidden layer.

    Raises:
        ValueError: if num_bits is out of range, or if H or W is odd.
    """

    noise_name = "variational"

    def __init__(
        self,
        num_bits: int,
        image_shape: tuple[int, int, int],
        num_couplings: int = 4,
        hidden_channels: int = 32,
        context_channels: int = 16,
        activation: Callable[[], nn.Module] = relu,
    ) -> None:
        super().__init__(num_bits)
        channels, height, width = image_shape
        if height % 2 or width % 2:
            raise ValueError(f"dequantize=variational needs even H and W, got {height}x{width}: take uniform")
        self.squeeze = Squeeze()
        channels *= 4
        self.context = nn.Sequential(
            plain_conv(channels, hidden_channels, 3),
            activation(),
            plain_conv(hidden_channels, context_channels, 3),
            activation(),
        )
        self.affine = Affine(BoundedScale(channels))
        self.steer = ZeroConv2d(context_channels, self.affine.num_raw * channels)
        make_network = partial(
            ConvNet,
            hidden_channels=hidden_channels,
            hidden_conv=ActNormConv2d,
            input_limit=6,
            activation=activation,
        )
        self.couplings = nn.ModuleList(
            Coupling(channels, mask, Affine(BoundedScale(mask.part_channels)), make_network, context_channels)
            for mask in (ChannelMask(channels, swap=place % 2 == 1) for place in range(num_couplings))
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same as `Dequantize.forward`: `x` lies in the image's bins for any values of the parameters."""
        return self.fill(images, on_grid(noise) + 0.5 / GRID)  # never 0, which has no logit

    def fill(self, images: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same as `forward` for noise strictly between 0 and 1; the result is a smooth function of the noise."""
        low_ends = self.place(images, torch.zeros_like(uniform))
        context = self.context(self.squeeze(low_ends)[0]).to(uniform.dtype)

        y, _ = self.squeeze(uniform.logit())
        y, log_scale = self.affine(y, self.steer(context).to(y.dtype))
        log_dets = [log_scale.sum((1, 2, 3)), -(uniform.log() + (-uniform).log1p()).sum((1, 2, 3))]
        for coupling in self.couplings:
            y, log_det = coupling(y, context)
            log_dets.append(log_det)
        log_dets.append((F.logsigmoid(y) + F.logsigmoid(-y)).sum((1, 2, 3)))

        part = 1 - 1 / GRID  # part of the bin that is used, so that rounding never leads into the next bin
        x = self.place(images, part * self.squeeze.inverse(y).sigmoid())
        log_volume = self.log_bin_volume(images) + images[0].numel() * math.log(part)
        return x, torch.stack(log_dets).sum(0) + log_volume


DEQUANTIZATIONS: dict[str, Callable[[int, tuple[int, int, int], Callable[[], nn.Module]], Dequantize]] = {
    "uniform": lambda num_bits, image_shape, activation: Dequantize(num_bits),
    "variational": lambda num_bits, image_shape, activation: VariationalDequantize(
        num_bits, image_shape, activation=activation
    ),
}
"""Choices of `dequantize`, each made from num_bits, (C, H, W) and what makes the activations of networks."""
