"""The contract that every transform keeps."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from flows.overriding import is_newer
from flows.pull_back import pull_back

Vjp = tuple[Tensor, Tensor, list[Tensor | None]]
"""What was rebuilt, the gradient with respect to `x`, and those with respect to parameters."""


class Bijection(nn.Module, ABC):
    """An invertible map between images `x` and latents `z`, both `(B, C, H, W)`, with a tractable Jacobian.

    A subclass with a `forward` or `inverse` of its own needs no `vjp`: it gets the one that suits all.
    """

    channels: int | None = None
    """Channels the map accepts on its data side; None for any number."""

    exact_inverse = True
    """Whether `inverse` undoes `forward` up to rounding, in closed form."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if is_newer(cls, "forward", than="vjp") or is_newer(cls, "inverse", than="vjp"):
            cls.vjp = Bijection.vjp  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to latents.

        Args:
            x: `(B, C, H, W)`.

        Returns:
            `z` and `log_det` `(B,)` in nats: log|det dz/dx| summed over channels and pixels.

        Raises:
            ValueError: if `x` does not have the expected shape.
        """

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Map latents back to data: the exact inverse of `forward`."""

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor) -> Vjp:
        """Backpropagate from the output alone: rebuild `x` from `z`, then differentiate `forward` at `x`.

        Args:
            z: the output of `forward`.
            grad_z: gradient of the loss with respect to `z`, same shape.
            grad_log_det: gradient of the loss with respect to `log_det`, `(B,)`.

        Returns:
            `x`, the gradient with respect to it, and those with respect to each of `parameters()`, or None.
        """
        with torch.no_grad():
            x = self.inverse(z)
        _, grad_x, gradients = self.vjp_at(x, grad_z, grad_log_det)
        return x, grad_x, gradients

    def vjp_at(self, x: Tensor, grad_z: Tensor, grad_log_det: Tensor) -> Vjp:
        """As `vjp`, where `x` is known: it returns `z` in its place."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            z, log_det = self(x)
        grad_x, *gradients = pull_back((z, log_det), (grad_z, grad_log_det), [x, *self.parameters()])
        assert grad_x is not None
        return z.detach(), grad_x, gradients

    def check_shape(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is `(B, C, H, W)` with the channels this map was built for."""
        if x.dim() != 4 or self.channels not in (None, x.shape[1]):
            expected = f"(B, {self.channels or 'C'}, H, W)"
            raise ValueError(f"{type(self).__name__} expects {expected}, got {tuple(x.shape)}")
