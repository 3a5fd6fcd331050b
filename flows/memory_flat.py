"""Training whose memory does not grow with the number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

if TYPE_CHECKING:
    from flows.chain import Chain


def memory_flat(chain: Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `chain(x)`, keeping for the backward pass nothing but input and output.

    Going back, what is between is rebuilt by the inverses: less memory for more time (Gomez et al. 2017,
    arXiv:1707.04585). What rounding adds up to on the way is left in `chain.drift`. Meanwhile the
    gradients of the chain's parameters are there twice.

    Args:
        chain: a composition of bijections.
        x: `(B, C, H, W)`.

    Returns:
        `z` and `log_det` `(B,)` in nats.
    """
    return _MemoryFlat.apply(chain, x, *chain.parameters())


def backward_through(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Backpropagate `gradients` through those `outputs` that depend on anything trainable."""
    pairs = [(out, grad) for out, grad in zip(outputs, gradients, strict=True) if out.requires_grad]
    torch.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])


class _Vjp(nn.Module):
    """The way back through a chain as a forward, which `functional_call` can give other parameters."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: Tensor, z: Tensor, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient with respect to `x`, and how far the rebuilt output of the first bijection is off."""
        z, grad_z = self.chain.vjp(z, grad_z, grad_log_det, start=1)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            true_z, log_det = self.chain.bijections[0](x)
        backward_through((true_z, log_det), (grad_z, grad_log_det))
        assert x.grad is not None
        return x.grad, (true_z - z).detach().abs().max()


class _MemoryFlat(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave by the front door: hooks such as those of DDP see them."""

    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = chain.compose(x)
        ctx.chain = chain
        ctx.save_for_backward(x, z)
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
            grad_x, ctx.chain.drift = functional_call(vjp, leaves, (*ctx.saved_tensors, grad_z, grad_log_det))
        return None, grad_x, *(leaf.grad for leaf in leaves.values())
