"""Space to depth."""

import torch
import torch.nn.functional as F
from torch import Tensor

from flows.autograd import is_transformed
from flows.bijection import Bijection
from flows.context import Context


def channels_last(x: Tensor) -> Tensor:
    """Return `x` in the memory format of the fastest convolutions; unchanged under `torch.func`, which lacks it."""
    return x if is_transformed() else x.contiguous(memory_format=torch.channels_last)


class Squeeze(Bijection):
    """Trade space for channels: `(B, C, H, W)` to `(B, 4C, H/2, W/2)`, c_out = 4c + 2dh + dw.

    (RealNVP, section 3.6; channel order of the original Glow release.)
    """

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"Squeeze expects (B, C, H, W) with even H and W, got {tuple(x.shape)}")
        return channels_last(F.pixel_unshuffle(x, 2)), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        if z.shape[1] % 4:
            raise ValueError(f"Squeeze inverts (B, 4C, H, W), got {tuple(z.shape)}")
        return F.pixel_shuffle(z, 2)
