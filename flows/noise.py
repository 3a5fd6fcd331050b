"""Uniform noise as a pure function of its coordinates: no generator, no state, the same on every device."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def uniform_noise(index: Tensor, shape: Sequence[int], *, seed: int, stream: int) -> Tensor:
    """Return uniform noise for images; the noise of an image depends only on the index of that image.

    A counter-based generator (Salmon et al. 2011) with the finalizer of SplitMix64 (Steele et al. 2014):
    batches, ranks and resumed runs get the same noise for the same image.

    Args:
        index: `(B,)` int64, which image.
        shape: (C, H, W).
        seed: the run's seed.
        stream: what else the noise depends on, such as the training step or the draw of an evaluation.

    Returns:
        float32 `(B, C, H, W)` in [0, 1), multiples of 2^-16.

    Raises:
        ValueError: if index or seed is not as above.
    """
    if index.dtype != torch.int64 or index.dim() != 1:
        raise ValueError(f"index is int64 (B,), got {index.dtype} {tuple(index.shape)}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"the seed of noise is a whole number below 2^63, got {seed}")
    key = torch.full_like(index, seed)
    for coordinate in (stream, index):
        key = _mix(key + _GOLDEN) + coordinate
    pixels = torch.arange(math.prod(shape), device=index.device)
    bits = _mix(_mix(key + _GOLDEN)[:, None] + _GOLDEN * pixels)
    return (_shift(bits, 48).to(torch.float32) / 2**16).view(-1, *shape)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right and fill up with zeros; for int64, torch has no such shift."""
    return (z >> bits) & (2 ** (64 - bits) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)
