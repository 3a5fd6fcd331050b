"""Mixtures of logistics: the logit of their distribution function F, and its inverse."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_STEPS = 100
"""Most evaluations of F for an inverse. Some float64 values of extreme mixtures take 70, most values take 3 to 8."""


class Mixture(NamedTuple):
    """One mixture of K logistics for each entry of an image; all are `(B, K, C, H, W)`.

    Args:
        logits: of the weights, before the softmax.
        means: of the components.
        log_widths: of the components.
    """

    logits: Tensor
    means: Tensor
    log_widths: Tensor


def logit_and_log_slope(x: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Return y = logit(F(x)) and log dy/dx, each the shape of `x` `(B, C, H, W)`.

    All is computed in logarithms: log F = logsumexp(log weight + log sigmoid(t)) with t = (x - mean) / width. For
    1 - F, sigmoid(t) is replaced by sigmoid(-t), and for F' by sigmoid(t) sigmoid(-t) / width. The sum of the weights
    cancels, except in F'.
    """
    logits, means, log_widths = mixture
    t = (x[:, None] - means) * (-log_widths).exp()
    below = logits + F.logsigmoid(t)
    log_below, log_above = below.logsumexp(1), (below - t).logsumexp(1)
    log_density = (2 * below - logits - t - log_widths).logsumexp(1)
    return log_below - log_above, log_density + logits.logsumexp(1) - log_below - log_above


def from_logit(y: Tensor, mixture: Mixture) -> Tensor:
    """Return the x with logit(F(x)) = y, up to rounding; its gradient is that of the inverse function.

    Args:
        y: `(B, C, H, W)`.
        mixture: one for each entry.
    """
    x = solve(y, mixture)
    if torch.is_grad_enabled():
        value, log_slope = logit_and_log_slope(x, mixture)
        missing = y - value
        most = torch.finfo(y.dtype).max  # where F is flat: zero times infinity is no number
        x = x + (missing - missing.detach()) * (-log_slope.detach()).exp().clamp(max=most)
    return x


@torch.no_grad()
def solve(y: Tensor, mixture: Mixture) -> Tensor:
    """Return what `from_logit` returns, without a gradient; there is no closed form.

    Newton's method within a bracket. Where a step would leave the bracket or is not half as long as the one before,
    the bracket is halved in its place. An entry that has arrived is not computed any more.

    Args:
        y: `(B, C, H, W)`.
        mixture: one for each entry.
    """
    columns = [part.movedim(1, 0).flatten(1) for part in mixture]  # (K, N)
    target = y.flatten()
    of_components = columns[1] + columns[2].exp() * target
    low, high = of_components.amin(0), of_components.amax(0)  # F lies between its least and its largest component
    x, last = 0.5 * (low + high), high - low
    found, left = torch.empty_like(target), torch.arange(len(target), device=y.device)
    for _ in range(MOST_STEPS):
        value, slope = logit_and_slope(x, *columns)
        missing = target - value
        low, high = torch.where(missing > 0, x, low), torch.where(missing > 0, high, x)
        newton = x + missing / slope
        good = (newton >= low) & (newton <= high) & ((newton - x).abs() <= 0.5 * last)
        after = torch.where(good, newton, 0.5 * (low + high))
        under_way = (missing.abs() > 2 * torch.finfo(y.dtype).eps * (1 + target.abs())) & (after != x)
        found[left] = x
        kept = places(under_way)
        if len(kept) == 0:
            break
        left, target, low, high, last = (part[kept] for part in (left, target, low, high, (after - x).abs()))
        x, columns = after[kept], [part[:, kept] for part in columns]
    return found.view_as(y)


def places(mask: Tensor) -> Tensor:
    """Return where a mask `(N,)` is true."""
    return mask.nonzero()[:, 0]


def logit_and_slope(x: Tensor, logits: Tensor, means: Tensor, log_widths: Tensor) -> tuple[Tensor, Tensor]:
    """Return y = logit(F(x)) and dy/dx, each `(N,)`, for `x` `(N,)` and mixtures by columns, `(K, N)`.

    dy/dx is the mean of sigmoid(-t) / width, weighted by the components' parts of F, and that of
    sigmoid(t) / width, weighted by their parts of 1 - F.
    """
    per_width = (-log_widths).exp()
    t = (x - means) * per_width
    log_rising = F.logsigmoid(t)
    log_falling = log_rising - t  # log sigmoid(-t)
    below, above = logits + log_rising, logits + log_falling
    most_below, most_above = below.amax(0), above.amax(0)
    of_below, of_above = (below - most_below).exp_(), (above - most_above).exp_()
    sum_below, sum_above = of_below.sum(0), of_above.sum(0)
    y = most_below - most_above + (sum_below / sum_above).log()
    rising, falling = log_rising.exp_().mul_(per_width), log_falling.exp_().mul_(per_width)
    return y, (of_below * falling).sum(0) / sum_below + (of_above * rising).sum(0) / sum_above
