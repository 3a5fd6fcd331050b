"""Training whose memory does not grow with the number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

if TYPE_CHECKING:
    from flows.bijection import Chain


def memory_flat(chain: Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `chain(x)`, keeping for the backward pass nothing but the output.

    Going back, inputs are rebuilt by the inverses: less memory for more time (Gomez et al. 2017, arXiv:1707.04585).

    Args:
        chain: a composition of bijections.
        x: `(B, C, H, W)`.

    Returns:
        `z` and `log_det` `(B,)` in nats.
    """
    return _MemoryFlat.apply(chain, x, *chain.parameters())


class _Vjp(nn.Module):
    """The `vjp` of a chain as a forward, which `functional_call` can give other parameters."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain.vjp(z, grad_z, grad_log_det)


class _MemoryFlat(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave by the front door: hooks such as those of DDP see them."""

    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = chain.compose(x)
        ctx.chain = chain
        ctx.save_for_backward(z)
        device = x.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        vjp = _Vjp(ctx.chain)
        leaves = {name: p.detach().requires_grad_(p.requires_grad) for name, p in vjp.named_parameters()}
        device, dtype, enabled = ctx.autocast
        with torch.autocast(device, dtype, enabled):
            _, grad_x = functional_call(vjp, leaves, (*ctx.saved_tensors, grad_z, grad_log_det))
        return None, grad_x, *(leaf.grad for leaf in leaves.values())
