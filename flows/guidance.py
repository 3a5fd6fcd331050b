"""Guidance: samples that show their label more clearly than those of the flow itself."""

from typing import NamedTuple

import torch
from torch import Tensor

from flows.context import Context


class Guidance(NamedTuple):
    """How much a conditional flow is guided, and away from what (Ho & Salimans 2022, arXiv:2207.12598).

    Each Gaussian p that reads labels is replaced by p^(1 + weight) / q^weight, normalised, where q is the same Gaussian
    under the dropped label. If there is one such Gaussian, that of the prior at the top, if nothing else reads labels,
    and if q is at least as wide as p in every entry, the samples come from
    p(x | label)^(1 + weight) / p(x | dropped label)^weight. Otherwise this is a heuristic. If there are several such
    Gaussians, as in splits and in autoregressive blocks, the normalisation of each one depends on what was drawn before
    it. Couplings that read labels are not guided.
    """

    weight: float
    context: Context | None
    """The context of the same images under the dropped label."""


def guided(h: Tensor, dropped: Tensor, weight: float) -> Tensor:
    """Return mean and log sigma of the Gaussian p^(1 + weight) / q^weight, normalised (STARFlow, arXiv:2506.06276).

    If q is narrower than p, the quotient may have no finite mass. So q counts as at least as wide as p.

    Args:
        h: mean and log sigma of p, by channels, `(B, 2C, H, W)`.
        dropped: those of q, of the same shape.
        weight: at least 0.
    """
    mu, log_sigma = h.chunk(2, 1)
    dropped_mu, dropped_log_sigma = dropped.chunk(2, 1)
    ratio = (2 * (log_sigma - dropped_log_sigma)).exp().clamp(max=1)
    precision = 1 + weight * (1 - ratio)  # in units of that of p
    return torch.cat((mu + weight * ratio / precision * (mu - dropped_mu), log_sigma - 0.5 * precision.log()), 1)
