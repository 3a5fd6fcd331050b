"""Guidance: samples that show their label more clearly than those of the flow itself."""

from typing import NamedTuple

import torch
from torch import Tensor

from flows.context import Context


class Guidance(NamedTuple):
    """How much a conditional flow is guided, and away from what (Ho & Salimans 2022, arXiv:2207.12598).

    Samples come from p(x | label)^(1 + weight) / p(x | dropped label)^weight, normalised, in place of p(x | label).
    """

    weight: float
    context: Context | None
    """The context of the same images under the dropped label."""


def guided(h: Tensor | None, dropped: Tensor | None, weight: float) -> Tensor:
    """Return mean and log sigma of the Gaussian p^(1 + weight) / q^weight, normalised (STARFlow, arXiv:2506.06276).

    If p is wider than q, the quotient may have no finite mass. So q counts as at least as wide as p.

    Args:
        h: mean and log sigma of p, by channels, `(B, 2C, H, W)`.
        dropped: those of q, of the same shape.
        weight: at least 0.
    """
    assert h is not None and dropped is not None  # N(0, I) reads no labels
    mu, log_sigma = h.chunk(2, 1)
    dropped_mu, dropped_log_sigma = dropped.chunk(2, 1)
    ratio = (2 * (log_sigma - dropped_log_sigma)).exp().clamp(max=1)
    precision = 1 + weight - weight * ratio  # in units of that of p
    return torch.cat(
        (((1 + weight) * mu - weight * ratio * dropped_mu) / precision, log_sigma - 0.5 * precision.log()), 1
    )
