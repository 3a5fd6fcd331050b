"""Invertible 1x1 convolutions (Glow, section 3.2): the matrix itself, of unit determinant, whitening, or as LU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flows.bijections.linear import ChannelLinear, as_rows
from flows.initialize import DataDependent


class InvertibleConv1x1(ChannelLinear):
    """A dense invertible 1x1 convolution, orthogonal at start (Glow, section 3.2, equation 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    @classmethod
    def exchange(cls, channels: int) -> "InvertibleConv1x1":
        """Return one that starts as the exchange of the two halves of the channels."""
        layer = cls(channels)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(channels).roll(channels // 2, 0))
        return layer

    @staticmethod
    def affine(layers: Sequence["InvertibleConv1x1"]) -> tuple[Tensor, Tensor]:
        weights = torch.stack([layer.weight for layer in layers])
        return weights, weights.new_zeros(weights.shape[:2])


class UnitConv1x1(InvertibleConv1x1):
    """A dense invertible 1x1 convolution W / |det W|^(1/C), which keeps the volume; the actnorm before it scales.

    The scale of a plain 1x1 convolution is one that the prior can take back, so nothing holds it. Steps of a fixed
    size, such as Muon's, let it grow, until the networks read values that saturate them.
    """

    @staticmethod
    def affine(layers: Sequence[InvertibleConv1x1]) -> tuple[Tensor, Tensor]:
        weights = torch.stack([layer.weight for layer in layers])
        log_scales = torch.linalg.slogdet(weights.double()).logabsdet / weights.shape[-1]
        weights = weights * (-log_scales).exp().to(weights.dtype)[:, None, None]
        return weights, weights.new_zeros(weights.shape[:2])

    @classmethod
    def log_abs_det(cls, layers: Sequence[InvertibleConv1x1]) -> Tensor:
        weight = layers[0].weight
        return weight.new_zeros(len(layers))


class WhiteningConv1x1(InvertibleConv1x1, DataDependent):
    """A dense invertible 1x1 convolution that starts by whitening the first batch.

    Its outputs are then the principal components, uncorrelated and of unit variance, the one of the largest variance
    first (PCA whitening: Kessy, Lewin & Strimmer 2018, arXiv:1512.00809).
    """

    LEAST_VARIANCE = 1e-5
    """Components of less variance are scaled as if they had this variance, so that equal channels stay finite."""

    def initialize(self, x: Tensor) -> None:
        rows = as_rows(x).double()
        centred = rows - rows.mean(0)
        variances, axes = torch.linalg.eigh(centred.t() @ centred / len(rows))
        self.weight.copy_((axes / variances.clamp(min=self.LEAST_VARIANCE).sqrt()).flip(1).t())


class InvertibleConv1x1LU(ChannelLinear):
    """An invertible 1x1 convolution W = P (L + I) (U + diag(sign * exp(log_s))), orthogonal at start.

    P is fixed, and L and U are strictly triangular. Therefore log|det W| = sum(log_s) (Glow, equations 10 and 11).
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        permutation, lower, upper = torch.linalg.lu(nn.init.orthogonal_(torch.empty(channels, channels)))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(diagonal.abs().log())

    @staticmethod
    def affine(layers: Sequence["InvertibleConv1x1LU"]) -> tuple[Tensor, Tensor]:
        permutations, signs, lowers, uppers, log_ss = (
            torch.stack([getattr(layer, name) for layer in layers])
            for name in ("permutation", "sign", "lower", "upper", "log_s")
        )
        lower = lowers.tril(-1) + torch.eye(lowers.shape[1], dtype=lowers.dtype, device=lowers.device)
        upper = uppers.triu(1) + torch.diag_embed(signs * log_ss.exp())
        return permutations @ lower @ upper, torch.zeros_like(log_ss)

    @classmethod
    def log_abs_det(cls, layers: Sequence["InvertibleConv1x1LU"]) -> Tensor:
        return torch.stack([layer.log_s for layer in layers]).sum(1)
