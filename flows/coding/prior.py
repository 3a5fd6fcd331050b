"""Latents on the stack: what the priors of a flow say of them is what they cost."""

import math

import torch
from torch import Tensor

from flows.coding.cells import NUM_CELLS, Map, back_through, edge, through
from flows.coding.linear import everywhere
from flows.coding.stack import BitStack

RANGE = 2.0**14
"""Length of the interval that all latents are mapped to."""

HEAVY = 2.0**-10
"""Part of the probability that is given to heavy tails, so that all latents can be coded."""


def distribution(mean_and_log_sigma: Tensor | None) -> Map:
    """Return the distribution function of Gaussians, with somewhat heavier tails, from 0 to `RANGE`.

    Args:
        mean_and_log_sigma: by channels; None for N(0, I).
    """
    if mean_and_log_sigma is None:
        return heavy
    mean, log_sigma = mean_and_log_sigma.double().chunk(2, 1)
    scale = (-log_sigma).exp()
    return lambda x: heavy((x - mean) * scale)


def heavy(x: Tensor) -> Tensor:
    """Return the distribution function of N(0, 1) with heavier tails, from 0 to `RANGE`."""
    return RANGE * ((1 - HEAVY) * torch.special.ndtr(x) + HEAVY * (0.5 + x.atan() / math.pi))


def push_latents(stack: BitStack, points: Tensor, mean_and_log_sigma: Tensor | None) -> None:
    """Push points `(B, C, H, W)` that have these Gaussians."""
    mapped, first, sizes = shared(mean_and_log_sigma, points)
    stack.push(through(mapped, points, stack, everywhere(points)) - first, sizes)


def pop_latents(stack: BitStack, like: Tensor, mean_and_log_sigma: Tensor | None) -> Tensor:
    """Pop points `(B, C, H, W)` of the shape of `like`."""
    mapped, first, sizes = shared(mean_and_log_sigma, like)
    points = stack.pop(sizes) + first
    return back_through(mapped, points, stack, everywhere(points))


def shared(mean_and_log_sigma: Tensor | None, like: Tensor) -> tuple[Map, Tensor, Tensor]:
    """Return the map, the first of the points that it leads to, and the number of them."""
    mapped = distribution(mean_and_log_sigma)
    first, last = (edge(mapped, torch.full_like(like, end)) for end in (-NUM_CELLS, NUM_CELLS))
    return mapped, first, last - first
