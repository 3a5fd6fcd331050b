"""The composition of bijections."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.hooks import is_hooked
from flows.linear import ChannelLinear, affines, inverses, log_abs_dets
from flows.memory_flat import backward_through, memory_flat


class Chain(Bijection):
    """The composition of bijections, applied in the order given; matrices of channels are computed all together."""

    memory_efficient = False
    """Whether training keeps the ends alone and rebuilds what is between, going back (see `memory_flat`)."""

    drift: Tensor | None = None
    """How far what the last backward pass rebuilt was from the truth, where it had gone furthest; None before."""

    def __init__(self, *bijections: Bijection) -> None:
        super().__init__()
        self.bijections: Sequence[Bijection] = nn.ModuleList(bijections)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.bijections)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = self.memory_efficient and len(self.bijections) > 0 and torch.is_grad_enabled()
        return memory_flat(self, x) if flat else self.compose(x)

    def compose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Do what `forward` does, one bijection after the other."""
        linears = [layer for layer in matrices(self.bijections) if not is_hooked(layer)]
        at_hand = dict(zip(linears, zip(affines(linears, x), log_abs_dets(linears, x), strict=True), strict=True))
        log_dets = [x.new_zeros(x.shape[0])]
        for bijection in self.bijections:
            if isinstance(bijection, ChannelLinear) and bijection in at_hand:
                x, log_det = bijection.transform(x, *at_hand[bijection])
            else:
                x, log_det = bijection(x)
            log_dets.append(log_det)
        return x, torch.stack(log_dets).sum(0)

    def inverse(self, z: Tensor) -> Tensor:
        linears = matrices(self.bijections)
        at_hand = dict(zip(linears, inverses(linears, z), strict=True))
        for bijection in reversed(self.bijections):
            if isinstance(bijection, ChannelLinear) and bijection in at_hand:
                z = bijection.apply_affine(z, at_hand[bijection])
            else:
                z = bijection.inverse(z)
        return z

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """As `Bijection.vjp`, back to the input of bijection number `start`."""
        bijections = self.bijections[start:]
        linears = matrices(bijections)
        with torch.enable_grad():
            forwards = affines(linears, z)
        with torch.no_grad():
            backwards = inverses(linears, z)
        at_hand = dict(zip(linears, zip(forwards, backwards, strict=True), strict=True))
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        for bijection in reversed(bijections):
            if isinstance(bijection, ChannelLinear) and bijection in at_hand:
                affine, inverse = at_hand[bijection]
                z, grad_z, grad_affine = bijection.pull_back(z, affine, inverse, grad_z, grad_log_det)
                outputs += affine
                gradients += grad_affine
            else:
                z, grad_z = bijection.vjp(z, grad_z, grad_log_det)
        backward_through(outputs, gradients)
        return z, grad_z


def matrices(bijections: Sequence[Bijection]) -> list[ChannelLinear]:
    """Return those of the bijections that run as matrices."""
    return [layer for layer in bijections if isinstance(layer, ChannelLinear) and layer.needs_matrix]
