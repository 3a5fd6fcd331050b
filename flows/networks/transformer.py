"""A causal transformer over tokens, with a cache for one token at a time."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flows.arguments import require_positive
from flows.autograd import is_plain

Cache = tuple[Tensor, Tensor]
"""Keys and values of one layer, `(B, heads, T, width / heads)`, of which the first few tokens are filled in."""


class Attention(nn.Module):
    """Attention of each token to itself and to those before it (Vaswani et al. 2017).

    Args:
        width: channels of a token.
        num_heads: number of heads, a divisor of the width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what attention adds to tokens `(B, T, width)`."""
        queries, keys, values = self._heads(tokens)
        plain = not torch.compiler.is_compiling() and is_plain()  # only this kernel has second derivatives
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            found = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.leave(found.transpose(1, 2).flatten(2))

    def step(self, token: Tensor, place: int, cache: Cache) -> Tensor:
        """Return what attention adds to the token at a place, `(B, 1, width)`; those before it are in the cache."""
        query, key, value = self._heads(token)
        keys, values = cache
        keys[:, :, place : place + 1], values[:, :, place : place + 1] = key, value
        found = F.scaled_dot_product_attention(query, keys[:, :, : place + 1], values[:, :, : place + 1])
        return self.leave(found.transpose(1, 2).flatten(2))

    def _heads(self, tokens: Tensor) -> Sequence[Tensor]:
        """Return queries, keys and values, each `(B, heads, T, width / heads)`."""
        batch_size, length, width = tokens.shape
        shape = batch_size, length, 3, self.num_heads, width // self.num_heads
        return self.enter(self.norm(tokens)).view(shape).permute(2, 0, 3, 1, 4).unbind(0)


class Mlp(nn.Module):
    """Two linear layers with GELU between, for each token by itself.

    Args:
        width: channels of a token.
        expansion: of the hidden layer.
    """

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, expansion * width)
        self.leave = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what the layers add to tokens `(B, T, width)`."""
        return self.leave(F.gelu(self.enter(self.norm(tokens))))


class CausalTransformer(nn.Module):
    """Layers of attention and MLP with normalisation first: the output at a token depends on it and on those before it.

    Args:
        width: channels of a token.
        num_layers: number of layers.
        num_heads: heads of each attention.

    Raises:
        ValueError: if a number is below 1, or if the heads do not divide the width.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        require_positive(width=width, num_layers=num_layers, num_heads=num_heads)
        if width % num_heads:
            raise ValueError(f"the width of a transformer is a multiple of its heads, got {width} and {num_heads}")
        self.width = width
        self.num_heads = num_heads
        self.attentions: Sequence[Attention] = nn.ModuleList(  # type: ignore[assignment]
            Attention(width, num_heads) for _ in range(num_layers)
        )
        self.mlps = nn.ModuleList(Mlp(width) for _ in range(num_layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, T, width)` to as many."""
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            tokens = tokens + attention(tokens)
            tokens = tokens + mlp(tokens)
        return tokens

    def empty_caches(self, batch_size: int, length: int, like: Tensor) -> list[Cache]:
        """Return room for the keys and values of `length` tokens, for each layer."""
        shape = batch_size, self.num_heads, length, self.width // self.num_heads
        return [(like.new_empty(shape), like.new_empty(shape)) for _ in self.attentions]

    def step(self, token: Tensor, place: int, caches: Sequence[Cache]) -> Tensor:
        """Map the token at a place, `(B, 1, width)`, after those before it: the same as `forward` there."""
        for attention, mlp, cache in zip(self.attentions, self.mlps, caches, strict=True):
            token = token + attention.step(token, place, cache)
            token = token + mlp(token)
        return token
