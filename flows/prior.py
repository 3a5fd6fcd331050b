"""Gaussian priors as affine maps to N(0, I), so that every latent of a flow is standard normal."""

import math
from functools import reduce

import torch
from torch import Tensor, nn

from flows.arguments import require_positive
from flows.context import Context, features_at, joined, labels_for
from flows.guidance import Guidance, guided
from flows.networks.conditioner import ZeroConv2d


def standardize(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return eps = (x - mu) / sigma and its log_det `(B,)` in nats, for `h` = (mu, log sigma) by channels."""
    mu, log_sigma = h.chunk(2, dim=1)
    log_det = -log_sigma.expand_as(x).sum((1, 2, 3))
    return (x - mu) * (-log_sigma).exp(), log_det


def unstandardize(eps: Tensor, h: Tensor) -> Tensor:
    """Return x = mu + sigma * eps, the inverse of `standardize`."""
    mu, log_sigma = h.chunk(2, dim=1)
    return mu + log_sigma.exp() * eps


class Split(nn.Module):
    """Keep half of the channels and factor the other half out as latents (RealNVP, section 3.6).

    Args:
        channels: C of the image, even.
        conditioner: maps the kept half `(B, C/2, H, W)` to mean and log sigma of the other, `(B, C, H, W)`
            (Glow's learned prior); None for N(0, I).
        context_channels: E, the number of features that the conditioner reads after the kept half; 0 for none.

    Raises:
        ValueError: if the number of channels is odd, or if there are features and no conditioner to read them.
    """

    def __init__(self, channels: int, conditioner: nn.Module | None = None, context_channels: int = 0) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"a split halves the channels, so their number must be even, got {channels}")
        if conditioner is None and context_channels:
            raise ValueError("a split without a conditioner reads no features: give it one, or context_channels=0")
        self.channels = channels
        self.conditioner = conditioner
        self.context_channels = context_channels

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Split `x` `(B, C, H, W)` into the kept half, `eps` (both `(B, C/2, H, W)`) and log_det `(B,)`."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"Split expects (B, {self.channels}, H, W), got {tuple(x.shape)}")
        x1, x2 = x.chunk(2, dim=1)
        h = self.mean_and_log_sigma(x1, context)
        return (x1, x2, x.new_zeros(x.shape[0])) if h is None else (x1, *standardize(x2, h))

    def inverse(
        self, x1: Tensor, eps: Tensor, context: Context | None = None, guidance: Guidance | None = None
    ) -> Tensor:
        """Put the kept half and the latents together again: `(B, C, H, W)`."""
        h = self.mean_and_log_sigma(x1, context)
        if guidance is not None and h is not None and self.context_channels:
            dropped = self.mean_and_log_sigma(x1, guidance.context)
            assert dropped is not None
            h = guided(h, dropped, guidance.weight)
        return torch.cat((x1, eps if h is None else unstandardize(eps, h)), dim=1)

    def mean_and_log_sigma(self, x1: Tensor, context: Context | None) -> Tensor | None:
        """Return mean and log sigma of the other half `(B, C, H, W)`, or None for N(0, I)."""
        if self.conditioner is None:
            return None
        return self.conditioner(joined(x1, context, self.context_channels)).to(x1.dtype)


class TopPrior(nn.Module):
    """The Gaussian of the coarsest latents: a learned bias, plus an embedding of the label, plus a map of features.

    Args:
        shape: (C, H, W) of the latents.
        kind: "position" learns a mean and a sigma for every entry, "channel" learns them for each channel (Glow's
            learned top prior), "standard" learns nothing: N(0, I).
        num_classes: number of labels of a class-conditional prior (Glow's `ycond`); None for none. An embedding of the
            label is added to mean and log sigma: one value for every entry ("position"), else one for each channel.
        context_channels: E, the number of features that mean and sigma depend on through a convolution; 0 for none.
    """

    KINDS = ("position", "channel", "standard")

    def __init__(
        self, shape: tuple[int, int, int], kind: str, num_classes: int | None = None, context_channels: int = 0
    ) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f"top_prior is one of {', '.join(self.KINDS)}, got {kind!r}")
        if num_classes is not None:
            require_positive(num_classes=num_classes)
        self.shape = shape
        channels, height, width = shape
        self.h_shape = (2 * channels, height, width) if kind == "position" else (2 * channels, 1, 1)
        self.bias = None if kind == "standard" else nn.Parameter(torch.zeros(self.h_shape))
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, math.prod(self.h_shape))
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)
        self.context_channels = context_channels
        self.of_features = ZeroConv2d(context_channels, 2 * channels) if context_channels else None

    @property
    def reads_context(self) -> bool:
        """Whether mean and sigma depend on labels or features."""
        return self.embedding is not None or self.context_channels > 0

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        """Map `x` `(B, C, H, W)` to `eps` of the same shape and log_det `(B,)`."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"the top prior expects (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        h = self.mean_and_log_sigma(x, context)
        return (x, x.new_zeros(x.shape[0])) if h is None else standardize(x, h)

    def inverse(self, eps: Tensor, context: Context | None = None, guidance: Guidance | None = None) -> Tensor:
        """Map latents `eps` `(B, C, H, W)` back to `x`."""
        h = self.mean_and_log_sigma(eps, context)
        if guidance is not None and h is not None and self.reads_context:
            dropped = self.mean_and_log_sigma(eps, guidance.context)
            assert dropped is not None
            h = guided(h, dropped, guidance.weight)
        return eps if h is None else unstandardize(eps, h)

    def mean_and_log_sigma(self, x: Tensor, context: Context | None) -> Tensor | None:
        """Return mean and log sigma for `x` or `eps`, `(B or 1, 2C, H or 1, W or 1)`, or None for N(0, I).

        Raises:
            ValueError: if a class-conditional prior does not get one label per image.
        """
        terms = [] if self.bias is None else [self.bias[None]]
        if self.embedding is not None:
            terms.append(self.embedding(labels_for(context, x)).view(-1, *self.h_shape))
        if self.of_features is not None:
            terms.append(self.of_features(features_at(context, x, self.context_channels)).to(x.dtype))
        return reduce(torch.add, terms) if terms else None
