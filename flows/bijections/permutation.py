"""Fixed reorderings of the channels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flows.bijections.linear import ChannelLinear
from flows.context import Context


class Permutation(ChannelLinear):
    """Reorder the channels: `z[:, i] = x[:, order[i]]`; volume preserving.

    Args:
        order: `(C,)` int64, each of 0..C-1 once; kept as a buffer.
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.channels = order.numel()
        self.register_buffer("order", order)

    @classmethod
    def reversal(cls, channels: int) -> "Permutation":
        """Reverse the channels (RealNVP's alternative in Glow, section 3.2)."""
        return cls(torch.arange(channels).flip(0))

    @classmethod
    def random(cls, channels: int) -> "Permutation":
        """Draw a fixed order from torch's global generator."""
        return cls(torch.randperm(channels))

    @staticmethod
    def affine(layers: Sequence["Permutation"]) -> tuple[Tensor, Tensor]:
        orders = torch.stack([layer.order for layer in layers])
        dtype = torch.get_default_dtype()
        weights = torch.eye(orders.shape[1], dtype=dtype, device=orders.device)[orders]
        return weights, weights.new_zeros(orders.shape)

    @classmethod
    def log_abs_det(cls, layers: Sequence["Permutation"]) -> Tensor:
        return torch.zeros(len(layers), device=layers[0].order.device)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        return x[:, self.order], x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        return z[:, self.order.argsort()]
