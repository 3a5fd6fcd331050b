"""A frame for peers that have no multi-scale Glow: it is the frame of this project around the peer's own layers."""

from collections.abc import Callable, Sequence

from torch import nn

from flows.bijection import Bijection
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.multiscale import Multiscale
from flows.prior import Split, TopPrior


def standard_split(shape: tuple[int, int, int]) -> Split:
    """Return a split whose latents, of shape (C, H, W), are N(0, I)."""
    return Split(2 * shape[0])


def framed(
    image_shape: Sequence[int],
    num_levels: int,
    make_level: Callable[[tuple[int, int, int]], Bijection],
    make_split: Callable[[tuple[int, int, int]], Split] = standard_split,
    top_prior: str = "standard",
) -> ImageFlow:
    """Return a multi-scale flow.

    Args:
        image_shape: (C, H, W).
        num_levels: L.
        make_level: gets the shape (C, H, W) that enters a level, and returns squeeze and steps.
        make_split: gets the shape (C, H, W) of the latents that leave after a level.
        top_prior: as for `TopPrior`.
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
            [make_split(shape) for shape in latent_shapes[:-1]],
            TopPrior(latent_shapes[-1], top_prior),
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
