"""Elementwise maps: what a coupling does to each entry, steered by its conditioner."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flows.bijections.mixture import Mixture, from_logit, logit_and_log_slope
from flows.bijections.scale import knows_slope
from flows.overriding import is_newer
from flows.pull_back import pull_back

ElementwiseVjp = tuple[Tensor, Tensor, Tensor, list[Tensor | None]]
"""The rebuilt `x`, and the gradients with respect to `x`, `raw` and parameters."""


class ElementwiseMap(nn.Module):
    """An invertible map of each entry of `x`, steered by `raw`: `num_raw` times the channels of `x`.

    A subclass that writes its own `forward` or `inverse` needs no `vjp`: it gets the general one.
    """

    num_raw: int

    exact_inverse = True
    """Whether `inverse` undoes `forward` up to rounding, in closed form."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if is_newer(cls, "forward", than="vjp") or is_newer(cls, "inverse", than="vjp"):
            cls.vjp = ElementwiseMap.vjp  # type: ignore[method-assign]
        if is_newer(cls, "inverse", than="mean_and_log_sigma"):
            cls.mean_and_log_sigma = ElementwiseMap.mean_and_log_sigma  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return `z` and log|dz/dx| of each entry, both the shape of `x`."""

    @abstractmethod
    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """Return the `x` that `forward` maps to `z`."""

    def mean_and_log_sigma(self, raw: Tensor) -> Tensor:
        """Return mean and log sigma, by channels, of the `x` that belong to `z` from N(0, I); guidance needs them.

        Raises:
            ValueError: if these `x` are not Gaussian.
        """
        raise ValueError(f"guidance is for Gaussians, and {type(self).__name__} is no affine map: leave guidance out")

    @property
    def is_affine(self) -> bool:
        """Whether `mean_and_log_sigma` knows the Gaussian."""
        return type(self).mean_and_log_sigma is not ElementwiseMap.mean_and_log_sigma

    def vjp(self, z: Tensor, raw: Tensor, grad_z: Tensor, grad_log_derivative: Tensor) -> ElementwiseVjp:
        """Backpropagate from `z` and `raw` alone: rebuild `x`, then differentiate `forward`.

        Args:
            z: the output of `forward`.
            raw: its second input.
            grad_z: gradient of the loss with respect to `z`.
            grad_log_derivative: gradient of the loss with respect to log|dz/dx|.

        Returns:
            `x`, the gradients with respect to `x` and `raw`, and the gradients with respect to each of `parameters()`.
        """
        with torch.no_grad():
            x = self.inverse(z, raw)
        x, raw = x.requires_grad_(), raw.detach().requires_grad_()
        with torch.enable_grad():
            outputs = self(x, raw)
        inputs = [x, raw, *self.parameters()]
        grad_x, grad_raw, *gradients = pull_back(outputs, (grad_z, grad_log_derivative), inputs)
        assert grad_x is not None and grad_raw is not None
        return x.detach(), grad_x, grad_raw, gradients


class Additive(ElementwiseMap):
    """z = x + shift; volume preserving (NICE; Glow, section 3.3)."""

    num_raw = 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return x + raw, torch.zeros_like(x)

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        return z - raw

    def mean_and_log_sigma(self, raw: Tensor) -> Tensor:
        return torch.cat((-raw, torch.zeros_like(raw)), 1)


class Affine(ElementwiseMap):
    """z = x * scale + shift (RealNVP, equation 7).

    Args:
        scale: turns the raw half of the conditioner's output into log scale.
    """

    num_raw = 2

    def __init__(self, scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw_scale = raw.chunk(2, dim=1)
        log_scale = self.scale(raw_scale)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        shift, raw_scale = raw.chunk(2, dim=1)
        return (z - shift) * (-self.scale(raw_scale)).exp()

    def mean_and_log_sigma(self, raw: Tensor) -> Tensor:
        shift, raw_scale = raw.chunk(2, dim=1)
        log_sigma = -self.scale(raw_scale)
        return torch.cat((-shift * log_sigma.exp(), log_sigma), 1)

    def vjp(self, z: Tensor, raw: Tensor, grad_z: Tensor, grad_log_derivative: Tensor) -> ElementwiseVjp:
        if not knows_slope(self.scale):
            return super().vjp(z, raw, grad_z, grad_log_derivative)
        with torch.no_grad():
            shift, raw_scale = raw.chunk(2, dim=1)
            log_scale = self.scale(raw_scale)
            scale = log_scale.exp()
            stretched = z - shift
            grad_raw_scale = torch.addcmul(grad_log_derivative, grad_z, stretched) * self.scale.slope(log_scale)
            return stretched / scale, grad_z * scale, torch.cat((grad_z, grad_raw_scale), 1), []


class ShiftedAffine(Affine):
    """z = (x + shift) * scale: the order of the original Glow release."""

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw_scale = raw.chunk(2, dim=1)
        log_scale = self.scale(raw_scale)
        return (x + shift) * log_scale.exp(), log_scale

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        shift, raw_scale = raw.chunk(2, dim=1)
        return z * (-self.scale(raw_scale)).exp() - shift

    def mean_and_log_sigma(self, raw: Tensor) -> Tensor:
        shift, raw_scale = raw.chunk(2, dim=1)
        return torch.cat((-shift, -self.scale(raw_scale)), 1)


class MixtureLogistic(Affine):
    """z = logit(F(x)) * scale + shift, with F the distribution function of a mixture of logistics (Flow++).

    It can stretch some values and compress others, while an affine map treats all values the same (Ho et al. 2019,
    arXiv:1902.00275, section 3.2). `raw` has shift, scale, then weights, means and log widths of the components. The
    inverse is found step by step, because F has no inverse in closed form.

    Args:
        scale: as for `Affine`.
        num_components: K of the mixture.
    """

    exact_inverse = False

    def __init__(self, scale: nn.Module, num_components: int = 4) -> None:
        super().__init__(scale)
        self.num_components = num_components
        self.num_raw = 2 + 3 * num_components

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        mixture, affine = self._parts(x, raw)
        y, log_slope = logit_and_log_slope(x, mixture)
        z, log_scale = super().forward(y, affine)
        return z, log_slope + log_scale

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        mixture, affine = self._parts(z, raw)
        return from_logit(super().inverse(z, affine), mixture)

    def _parts(self, x: Tensor, raw: Tensor) -> tuple[Mixture, Tensor]:
        """Return the mixture of each entry, and the rest of `raw`."""
        affine, mixture = raw[:, : 2 * x.shape[1]], raw[:, 2 * x.shape[1] :]
        shape = (len(x), 3, self.num_components, *x.shape[1:])
        logits, means, log_widths = mixture.reshape(shape).unbind(1)
        start = torch.linspace(-1, 1, self.num_components, dtype=x.dtype, device=x.device)
        return Mixture(logits, means + start[:, None, None, None], log_widths.clamp(-7, 7)), affine


COUPLINGS: dict[str, Callable[[nn.Module], ElementwiseMap]] = {
    "affine": Affine,
    "shifted_affine": ShiftedAffine,
    "additive": lambda scale: Additive(),
    "mixture": MixtureLogistic,
}
"""Choices of `coupling`, each made from a scale function."""
