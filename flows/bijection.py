"""The contract that every transform keeps."""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from flows.context import Context, entries
from flows.overriding import is_newer
from flows.pull_back import pull_back

Vjp = tuple[Tensor, Tensor, list[Tensor | None], list[Tensor | None]]
"""The rebuilt tensor, and the gradients with respect to `x`, to parameters and to the entries of the context."""


class Bijection(nn.Module, ABC):
    """An invertible map between images `x` and latents `z`, both `(B, C, H, W)`, with a tractable Jacobian.

    The map may depend on a context. A subclass that does not depend on one may leave out the argument `context`.
    A subclass that writes its own `forward` or `inverse` needs no `vjp`: it gets the general one.
    """

    channels: int | None = None
    """Channels the map accepts on its data side; None for any number."""

    exact_inverse = True
    """Whether `inverse` undoes `forward` up to rounding, in closed form."""

    takes_context = True
    """Whether `forward` has an argument `context`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.takes_context = "context" in signature(cls.forward).parameters
        if is_newer(cls, "forward", than="vjp") or is_newer(cls, "inverse", than="vjp"):
            cls.vjp = Bijection.vjp  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latents.

        Args:
            x: `(B, C, H, W)`.
            context: what the map depends on; see `flows.context`.

        Returns:
            `z` and `log_det` `(B,)` in nats: log|det dz/dx| summed over channels and pixels.

        Raises:
            ValueError: if `x` does not have the expected shape, or if the context lacks what the map reads.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        """Map latents back to data: the exact inverse of `forward`."""

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: Context | None = None) -> Vjp:
        """Backpropagate from the output alone: rebuild `x` from `z`, then differentiate `forward` at `x`.

        Args:
            z: the output of `forward`.
            grad_z: gradient of the loss with respect to `z`, same shape.
            grad_log_det: gradient of the loss with respect to `log_det`, `(B,)`.
            context: the context that `forward` got.

        Returns:
            `x`, and the gradients with respect to `x`, to each of `parameters()` and to each entry of the context. The
            gradient is None for a tensor that has no influence or requires no gradient.
        """
        with torch.no_grad():
            x = self.inverse(z, *self.read(context))
        _, grad_x, of_parameters, of_context = self.vjp_at(x, grad_z, grad_log_det, context)
        return x, grad_x, of_parameters, of_context

    def vjp_at(self, x: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: Context | None = None) -> Vjp:
        """Do the same as `vjp` if `x` is known: return `z` in place of `x`."""
        x, context = x.detach().requires_grad_(), detached(context)
        with torch.enable_grad():
            z, log_det = self(x, *self.read(context))
        parameters, given = list(self.parameters()), entries(context)
        grad_x, *gradients = pull_back((z, log_det), (grad_z, grad_log_det), [x, *parameters, *given])
        assert grad_x is not None
        return z.detach(), grad_x, gradients[: len(parameters)], gradients[len(parameters) :]

    def read(self, context: Context | None) -> tuple[Context, ...]:
        """Return a context as further arguments: none if there is no context, or if the map does not take one."""
        return (context,) if context is not None and self.takes_context else ()

    def check_shape(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is `(B, C, H, W)` with the channels this map was built for."""
        if x.dim() != 4 or self.channels not in (None, x.shape[1]):
            expected = f"(B, {self.channels or 'C'}, H, W)"
            raise ValueError(f"{type(self).__name__} expects {expected}, got {tuple(x.shape)}")


def detached(context: Context | None) -> Context | None:
    """Return a context cut off from its graph; its entries require gradients if they did before."""
    if context is None:
        return None
    return tuple(entry.detach().requires_grad_(entry.requires_grad) for entry in entries(context))
