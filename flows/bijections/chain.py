"""The composition of bijections."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from flows.autograd import is_plain
from flows.bijection import Bijection, Vjp
from flows.bijections.linear import ChannelLinear, WeightAndBias, affines, inverses, log_abs_dets, run_as_matrices
from flows.context import Context, entries
from flows.hooks import is_hooked
from flows.memory.memory_flat import memory_flat


class Chain(Bijection):
    """The composition of bijections, applied in the order given; their matrices are computed together."""

    memory_flat = False
    """Whether training keeps only input and output, and the backward pass rebuilds the rest (see `memory_flat`)."""

    drift: Tensor | None = None
    """Largest error of the last tensor that the last backward pass rebuilt; None before the first such pass."""

    def __init__(self, *bijections: Bijection) -> None:
        super().__init__()
        self.bijections: Sequence[Bijection] = nn.ModuleList(bijections)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.bijections)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        if not (self.memory_flat and len(self.bijections) > 0 and torch.is_grad_enabled() and not is_plain()):
            return self.compose(x, context)
        with torch.no_grad():
            prepared = self.prepare(x)
        return memory_flat(self.bijections, x, context, prepared, self.note_drift)

    def note_drift(self, drift: Tensor) -> None:
        """Keep the error of the last backward pass, so that it can be watched."""
        self.drift = drift

    def compose(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        """Do what `forward` does, one bijection after the other."""
        prepared = self.prepare(x)
        log_dets = [x.new_zeros(x.shape[0])]
        for bijection in self.bijections:
            if isinstance(bijection, ChannelLinear) and bijection in prepared:
                x, log_det = bijection.transform(x, *prepared[bijection])
            else:
                x, log_det = bijection(x, *bijection.read(context))
            log_dets.append(log_det)
        return x, torch.stack(log_dets).sum(0)

    def prepare(self, x: Tensor) -> dict[Bijection, tuple[WeightAndBias, Tensor]]:
        """Return the arguments of `transform`, computed together, for all layers that are not hooked (`is_hooked`)."""
        layers = [layer for layer in run_as_matrices(self.bijections) if not is_hooked(layer)]
        return dict(zip(layers, zip(affines(layers, x), log_abs_dets(layers, x), strict=True), strict=True))

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        layers = run_as_matrices(self.bijections)
        prepared = dict(zip(layers, inverses(layers, z), strict=True))
        for bijection in reversed(self.bijections):
            if isinstance(bijection, ChannelLinear) and bijection in prepared:
                z = bijection.apply_affine(z, prepared[bijection])
            else:
                z = bijection.inverse(z, *bijection.read(context))
        return z

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: Context | None = None) -> Vjp:
        of_context: list[Tensor | None] = [None] * len(entries(context))
        gradients: dict[Tensor, Tensor | None] = dict.fromkeys(self.parameters())
        for bijection in reversed(self.bijections):
            z, grad_z, of_parameters, of_entries = bijection.vjp(z, grad_z, grad_log_det, *bijection.read(context))
            for parameter, gradient in zip(bijection.parameters(), of_parameters, strict=True):
                gradients[parameter] = plus(gradients[parameter], gradient)  # it may be used in another place, too
            if of_entries:
                of_context = list(map(plus, of_context, of_entries))
        return z, grad_z, list(gradients.values()), of_context


def plus(known: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, where None means that there is no gradient."""
    if known is None or gradient is None:
        return gradient if known is None else known
    return known + gradient
