"""From 8-bit images to continuous ones and back."""

import math

import torch
from torch import Tensor, nn

GRID = 2**16
"""Dequantization noise is a multiple of 1/GRID: 8 bits of image and 16 of noise add exactly in float32."""


class Dequantize(nn.Module):
    """Spread each grey level over its bin: uint8 to [-1/2, 1/2) (Uria et al. 2013; Theis et al. 2016).

    Args:
        num_bits: grey levels are 2^num_bits, 1 to 8; the lower bits of the image are dropped.

    Raises:
        ValueError: if num_bits is out of range.
    """

    noise_name = "uniform"
    """Name of the noise that fills the bins. Bounds from different kinds of noise are not comparable."""

    def __init__(self, num_bits: int = 8) -> None:
        super().__init__()
        if not isinstance(num_bits, int) or num_bits not in range(1, 9):
            raise ValueError(f"num_bits is a whole number between 1 and 8, got {num_bits!r}")
        self.num_bits = num_bits
        self.num_grey = 2**num_bits
        self.grey_step = 256 // self.num_grey

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Dequantize.

        Args:
            images: uint8 `(B, C, H, W)`.
            noise: in [0, 1), `(B, C, H, W)`; its dtype is the dtype of the result.

        Returns:
            `x` in [-1/2, 1/2), and log_det `(B,)` in nats of the map from noise to `x`. The log density at `x` plus
            log_det, averaged over uniform noise, is at most the log-probability of the image.
        """
        x = self.place(images, on_grid(noise))
        return x, x.new_full((images.shape[0],), self.log_bin_volume(images))

    def place(self, images: Tensor, position: Tensor) -> Tensor:
        """Return `x` in the bins of uint8 images, each value at its position in its bin: 0 (the low end) to below 1."""
        grey = torch.div(images, self.grey_step, rounding_mode="floor").to(position.dtype)
        return (grey + position) / self.num_grey - 0.5

    def log_bin_volume(self, images: Tensor) -> float:
        """Return the log volume, in nats, of the region that the noise of one image fills."""
        return -images[0].numel() * math.log(self.num_grey)

    def inverse(self, x: Tensor) -> Tensor:
        """Return the uint8 images whose bins hold `x`; values outside the cube take the nearest grey level."""
        grey = torch.floor((x + 0.5) * self.num_grey).clamp(0, self.num_grey - 1)
        return (grey * self.grey_step).to(torch.uint8)

    def without_low_bits(self, images: Tensor) -> Tensor:
        """Return uint8 images in the grey levels that samples have: without the low bits that are dropped."""
        return images - images % self.grey_step


def in_precision(noise: Tensor, dtype: torch.dtype) -> Tensor:
    """Return noise in another precision; it is put on the grid before, so that no value is rounded up to 1."""
    return noise if noise.dtype == dtype else on_grid(noise).to(dtype)


def on_grid(noise: Tensor) -> Tensor:
    """Round noise down to a multiple of 1/GRID."""
    return torch.floor(noise * GRID) / GRID
