"""First layers of a flow, which map the cube of grey values to the real line, pixel by pixel."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.context import Context
from flows.initialize import DataDependent

MARGIN = 1e-5
"""Probability kept free at each end, so that the ends of the cube map to finite values: about -4.3 and 4.3."""


class Logit(Bijection):
    """Map the cube [-1/2, 1/2) to the real line: z = logit(alpha + (1 - 2 alpha) (x + 1/2)).

    `alpha` keeps the edges finite (RealNVP, section 4.1).
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        slope = 1 - 2 * self.alpha
        z = torch.logit(self.alpha + slope * (x + 0.5))
        # d logit(p) / dp = 1 / (p (1 - p)), and -log p - log(1 - p) = softplus(-z) + softplus(z).
        log_derivative = F.softplus(-z) + F.softplus(z) + math.log(slope)
        return z, log_derivative.sum((1, 2, 3))

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha) - 0.5


class Gaussianize(Bijection, DataDependent):
    """z = Phi^-1(F(x)) for x in [-1/2, 1/2): F is a learned distribution of grey values, Phi the normal one.

    F is one histogram per channel, linear within its bins. It starts as the histogram of the first batch, so that each
    pixel by itself is standard normal, and is trained from there. (A step of Gaussianization, Chen & Gopinath 2001;
    with trained marginals, Meng et al. 2020, arXiv:2003.01941.) A grey level that many pixels share, such as a black
    background, fills a wide range of z. Without this layer, the couplings would have to stretch it to that range.

    Args:
        channels: C.
        num_bins: number of bins, of equal width; with 256, each grey level of 8 bits has its own bin.
        smoothing: part of the probability that is spread evenly over all bins at the start.
    """

    def __init__(self, channels: int, num_bins: int = 256, smoothing: float = 0.01) -> None:
        super().__init__()
        self.channels = channels
        self.num_bins = num_bins
        self.smoothing = smoothing
        self.logits = nn.Parameter(torch.zeros(channels, num_bins))

    def initialize(self, x: Tensor) -> None:
        bins, _ = self._bins(x.transpose(0, 1).flatten(1))
        counts = torch.zeros_like(self.logits, dtype=bins.dtype).scatter_add_(1, bins, torch.ones_like(bins))
        share = counts / counts.sum(1, keepdim=True)
        self.logits.copy_(((1 - self.smoothing) * share + self.smoothing / self.num_bins).log())

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        bins, within = self._bins(x)
        mass, below = self._histogram()
        mass, below = _look_up(mass, bins), _look_up(below, bins)
        z = torch.special.ndtri(MARGIN + (1 - 2 * MARGIN) * (below + within * mass))
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi))
        log_derivative = (mass * (self.num_bins * (1 - 2 * MARGIN))).log() - log_normal
        return z, log_derivative.sum((1, 2, 3))

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        share = ((torch.special.ndtr(z) - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)
        mass, below = self._histogram()
        rows = share.transpose(0, 1).contiguous()
        bins = torch.searchsorted(below[:, 1:].contiguous(), rows.flatten(1), right=True)
        bins = bins.view(rows.shape).transpose(0, 1)
        return (bins + (share - _look_up(below, bins)) / _look_up(mass, bins)) / self.num_bins - 0.5

    def _histogram(self) -> tuple[Tensor, Tensor]:
        """Return the probability of each bin, and the probability of all bins below it, both `(C, num_bins)`."""
        mass = self.logits.double().softmax(1)
        return mass.to(self.logits.dtype), (mass.cumsum(1) - mass).to(self.logits.dtype)

    def _bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bin of each entry, int64, and where in it the entry lies, 0 to 1."""
        scaled = (x + 0.5) * self.num_bins
        bins = scaled.floor().clamp(0, self.num_bins - 1)
        return bins.long(), scaled - bins


def _look_up(table: Tensor, bins: Tensor) -> Tensor:
    """Return the entries of a table `(C, N)` at the columns `(B, C, H, W)`."""
    channels, columns = table.shape
    rows = torch.arange(channels, device=bins.device)[:, None, None]
    return table.flatten()[bins + columns * rows]


PREPROCESSES: dict[str, Callable[[int], list[Bijection]]] = {
    "none": lambda channels: [],
    "logit": lambda channels: [Logit()],
    "gaussianize": lambda channels: [Gaussianize(channels)],
}
"""Choices of `preprocess`, each made from the number of channels."""
