"""Does an image belong to those that a flow was trained on? Scores, all of them high for images from outside."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flows.check_inputs import check_noise
from flows.dequantize import in_precision
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim
from flows.multiscale import standard_normal_log_prob


class Statistics(NamedTuple):
    """What a flow says about images.

    Args:
        bits: bits/dim `(B,)`; of a class-conditional flow, those of all classes together.
        log_det: `(B,)` nats, under the most probable class.
        squares: mean square of the latents of each level, finest first, `(B, L)`, under the most probable class.
    """

    bits: Tensor
    log_det: Tensor
    squares: Tensor


@torch.no_grad()
def statistics(flow: ImageFlow, images: Tensor, noise: Tensor) -> Statistics:
    """Return what a flow without conditions says about images.

    Args:
        flow: the model.
        images: uint8 `(B, C, H, W)`.
        noise: dequantization noise in [0, 1), `(B, C, H, W)`.

    Raises:
        ValueError: if the images or the noise do not suit the flow.
    """
    flow.check(images, None)
    check_noise(noise, images)
    x, noise_log_det = flow.dequantize(images, in_precision(noise, next(flow.parameters(), noise).dtype))
    label, marginal = None, None
    if flow.num_classes is not None:
        of_classes = flow.log_prob_of_classes(x)
        label = of_classes.argmax(0)
        marginal = of_classes.logsumexp(0) - math.log(flow.num_classes)
    zs, log_det = flow.multiscale(x, flow.context(label))
    log_prob = noise_log_det + (log_det + standard_normal_log_prob(zs) if marginal is None else marginal)
    squares = torch.stack([z.pow(2).flatten(1).mean(1) for z in zs], 1)
    return Statistics(bits_per_dim(log_prob, flow.num_dims), log_det, squares)


def atypicality(bits: Tensor, train_bits: Tensor) -> Tensor:
    """Return how far bits/dim are from their mean over training images (Nalisnick et al. 2019, arXiv:1906.02994)."""
    return (bits - train_bits.mean()).abs()


class DensityOfStates:
    """One-dimensional densities of log-det and of the mean squares of each level, fitted on training images.

    (Density of states estimation: Morningstar et al. 2021, arXiv:2006.09273. The densities are Gaussian kernels with
    Silverman's width.)

    Args:
        train: statistics of training images.

    Raises:
        ValueError: if there are fewer than two images.
    """

    def __init__(self, train: Statistics) -> None:
        if len(train.bits) < 2:
            raise ValueError(f"densities are fitted on at least two images, got {len(train.bits)}")
        self.points = states(train)
        deviation = self.points.std(0)
        quarter, three_quarters = torch.quantile(self.points, torch.tensor([0.25, 0.75]).to(self.points), 0)
        spread = torch.minimum(deviation, (three_quarters - quarter) / 1.34).clamp(min=1e-12)
        self.widths = 0.9 * spread * len(self.points) ** -0.2

    def score(self, found: Statistics) -> Tensor:
        """Return minus the sum of the log densities, `(B,)` nats."""
        total = torch.zeros(len(found.bits), dtype=self.points.dtype)
        for values, points, width in zip(states(found).T, self.points.T, self.widths, strict=True):
            distances = (values[:, None] - points) / width
            log_kernels = -0.5 * (distances**2 + math.log(2 * math.pi)) - width.log()
            total += math.log(len(points)) - log_kernels.logsumexp(1)
        return total


def states(found: Statistics) -> Tensor:
    """Return the statistics whose densities are fitted, float64 `(B, 1 + L)` on the CPU."""
    return torch.cat((found.log_det[:, None], found.squares), 1).double().cpu()
