"""Bits per dimension: a bound by averaging over dequantization noise, and a tighter one by importance weighting."""

import math

import torch
from torch import Tensor

from flows.arguments import require_positive
from flows.image_flow import ImageFlow
from flows.noise import uniform_noise


def bits_per_dim(log_prob: Tensor, num_dims: int) -> Tensor:
    """Turn nats per image into bits per dimension: -log_prob / (C * H * W * ln 2)."""
    return -log_prob / (num_dims * math.log(2))


def draw_log_probs(
    flow: ImageFlow,
    images: Tensor,
    label: Tensor | None,
    index: Tensor,
    *,
    num_draws: int,
    seed: int,
    condition: Tensor | None = None,
) -> Tensor:
    """Return `(num_draws, B)` values of log_prob in nats, each under its own dequantization noise.

    Args:
        flow: the model.
        images: uint8 `(B, C, H, W)`.
        label: `(B,)` int64 for a class-conditional flow, else None.
        index: `(B,)` int64, row of each image in its set. The noise is a function of (seed, draw, index), so
            neither batch size nor number of ranks changes the value.
        num_draws: S.
        seed: of the noise.
        condition: uint8 `(B, C', H', W')` for a flow that is conditioned on images, else None.

    Raises:
        ValueError: if there is no draw, or if the index does not fit the images.
    """
    require_positive(num_draws=num_draws)
    noises = (uniform_noise(index, flow.image_shape, seed=seed, stream=draw) for draw in range(num_draws))
    return torch.stack([flow(images, label, noise, condition) for noise in noises])


def mean_bits_per_dim(log_probs: Tensor, num_dims: int) -> Tensor:
    """Return the bound of each image, `(B,)`: bits/dim averaged over the S draws of `(S, B)` log_probs.

    By Jensen's inequality its expectation is at least the discrete bits/dim (Theis et al. 2016, section 3.1).
    """
    return bits_per_dim(log_probs.mean(0), num_dims)


def importance_weighted_bits_per_dim(log_probs: Tensor, num_dims: int) -> Tensor:
    """Return the importance-weighted bound of each image, `(B,)`, from `(S, B)` log_probs.

    This is -log mean exp over the draws. It is tighter than `mean_bits_per_dim`, and tends to the discrete bits/dim as
    S grows (Burda et al. 2016). It is not comparable with the plain bound that papers report.
    """
    return bits_per_dim(torch.logsumexp(log_probs, 0) - math.log(len(log_probs)), num_dims)
