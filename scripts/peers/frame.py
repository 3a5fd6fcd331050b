"""A frame for peers that have no multi-scale Glow: it is the frame of this project around the peer's own layers."""

from collections.abc import Callable, Sequence

from torch import nn

from flows.bijection import Bijection
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.multiscale import Multiscale
from flows.prior import Split, TopPrior


def framed(
    image_shape: Sequence[int], num_levels: int, make_level: Callable[[tuple[int, int, int]], Bijection]
) -> ImageFlow:
    """Return a multi-scale flow with standard normal latents.

    Args:
        image_shape: (C, H, W).
        num_levels: L.
        make_level: gets the shape (C, H, W) that enters a level, and returns squeeze and steps.
    """
    image_channels, image_height, image_width = channels, height, width = image_shape
    levels, latent_shapes = [], []
    for level in range(num_levels):
        levels.append(make_level((channels, height, width)))
        channels, height, width = 4 * channels, height // 2, width // 2
        channels = channels if level == num_levels - 1 else channels // 2
        latent_shapes.append((channels, height, width))
    return ImageFlow(
        image_shape=(image_channels, image_height, image_width),
        dequantize=Dequantize(),
        multiscale=Multiscale(
            levels,
            [Split(2 * channels) for channels, _, _ in latent_shapes[:-1]],
            TopPrior(latent_shapes[-1], "standard"),
            latent_shapes,
        ),
    )


def network(in_channels: int, out_channels: int, hidden_channels: int) -> nn.Sequential:
    """Return 3x3, 1x1 and 3x3 convolutions with ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_channels, hidden_channels, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_channels, out_channels, 3, padding=1),
    )
