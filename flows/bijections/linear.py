"""Bijections that mix channels linearly, in the same way at every pixel: they fold into one 1x1 convolution."""

from collections.abc import Callable, Iterable, Sequence
from inspect import getattr_static
from typing import Any, TypeVar

import torch
from torch import Tensor

from flows.autocast import full_precision
from flows.bijection import Bijection, Vjp
from flows.context import Context, entries
from flows.overriding import is_newer
from flows.pull_back import pull_back

AS_MATRIX = ("forward", "transform", "inverse", "apply_affine", "vjp", "vjp_through")
"""The methods that a layer must have from `ChannelLinear` to run as a matrix."""

WeightAndBias = tuple[Tensor, Tensor]
"""`W` `(C, C)` and `b` `(C,)` of a layer, or `W^-1` and `-W^-1 b` of its inverse."""


class ChannelLinear(Bijection):
    """`z = W x + b` at every pixel, with `W` a `(C, C)` matrix.

    A subclass writes `matrix`, for one layer; everything else is computed from it. Under autocast, matrices stay at the
    precision of the parameters. They are inverted in float64.

    The matrices of several layers of one kind are requested together. A subclass may write `affine` in place of
    `matrix` and compute them together, which takes far fewer operators than one after the other.

    A subclass that writes its own `matrix` or `affine` inherits no `affine`, `matrix`, `log_abs_det`, `forward` or
    `inverse` that was written for another matrix. It gets versions that use its own matrix.
    """

    runs_as_matrix: bool
    """Whether the layer only applies its matrix, so that a chain may apply the matrix instead."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if is_newer(cls, "affine", than="matrix"):
            cls.matrix = of_one(cls.affine)  # type: ignore[assignment, method-assign]
        elif is_newer(cls, "matrix", than="affine"):
            cls.affine = staticmethod(of_several(cls.matrix))  # type: ignore[assignment, method-assign]
        for name in ("log_abs_det", "forward", "inverse"):
            if getattr_static(cls, name) is not vars(ChannelLinear)[name] and is_newer(cls, "affine", than=name):
                setattr(cls, name, vars(ChannelLinear)[name])
        if any(is_newer(cls, name, than="vjp") for name in ("transform", "apply_affine")):
            cls.vjp = Bijection.vjp  # type: ignore[method-assign]
        cls.runs_as_matrix = all(getattr(cls, name) is getattr(ChannelLinear, name) for name in AS_MATRIX)

    @property
    def kind(self) -> tuple[Any, ...]:
        """A key that is equal for all layers whose matrices are computed together."""
        return type(self), self if self.channels is None else self.channels

    def matrix(self) -> Tensor | WeightAndBias:
        """Return `W` `(C, C)`, or `W` and `b` `(C,)`, on the device and in the precision of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no matrix: give it a `matrix` that returns W (C, C)")

    @staticmethod
    def affine(layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return `W` `(N, C, C)` and `b` `(N, C)` of N layers of this kind."""
        return of_several(ChannelLinear.matrix)(layers)

    @classmethod
    def log_abs_det(cls, layers: Sequence[Any]) -> Tensor:
        """Return log|det W| `(N,)` of N layers of this kind, in nats per pixel."""
        weights, _ = cls.affine(layers)
        return torch.linalg.slogdet(weights.double()).logabsdet.to(weights.dtype)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        (affine,), (log_abs_det,) = affines([self], x), log_abs_dets([self], x)
        return self.transform(x, affine, log_abs_det)

    def transform(self, x: Tensor, affine: WeightAndBias, log_abs_det: Tensor) -> tuple[Tensor, Tensor]:
        """Do what `forward` does, given what `forward` computes from the parameters."""
        return self.apply_affine(x, affine), (x.shape[2] * x.shape[3] * log_abs_det).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        (inverse,) = inverses([self], z)
        return self.apply_affine(z, inverse)

    def apply_affine(self, x: Tensor, affine: WeightAndBias) -> Tensor:
        """Return `x` with every pixel mapped by a matrix and an offset."""
        self.check_shape(x)
        return map_pixels(x, affine)

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: Context | None = None) -> Vjp:
        with torch.no_grad():
            ((affine, inverse),) = with_inverses([self], z)
        x, grad_x, grad_affine = self.vjp_through(affine, inverse, z, grad_z, grad_log_det)
        with torch.enable_grad():
            (outputs,) = affines([self], z)
        return x, grad_x, pull_back(outputs, grad_affine, list(self.parameters())), [None] * len(entries(context))

    def vjp_through(
        self, affine: WeightAndBias, inverse: WeightAndBias, z: Tensor, grad_z: Tensor, grad_log_det: Tensor
    ) -> tuple[Tensor, Tensor, WeightAndBias]:
        """Do what `vjp` does, given the matrices, but return the gradients with respect to the matrices.

        No second forward pass is needed: the gradients of a linear map are products of matrices, and the gradient of
        log|det W| is the transpose of W^-1.
        """
        with torch.no_grad(), full_precision(z):
            x = self.apply_affine(z, inverse)
            rows = as_rows(grad_z)
            grad_x = as_image(rows @ affine[0], grad_z)
            grad_log_abs_det = z.shape[2] * z.shape[3] * grad_log_det.sum()
            grad_weight = torch.addmm(inverse[0].t() * grad_log_abs_det, rows.t(), as_rows(x))
            return x, grad_x, (grad_weight, rows.sum(0))


def of_several(
    matrix: Callable[[Any], Tensor | WeightAndBias],
) -> Callable[[Sequence[ChannelLinear]], tuple[Tensor, Tensor]]:
    """Return an `affine` that calls `matrix` for one layer after the other."""

    def affine(layers: Sequence[ChannelLinear]) -> tuple[Tensor, Tensor]:
        made = [matrix(layer) for layer in layers]
        weights = [it if isinstance(it, Tensor) else it[0] for it in made]
        biases = [it.new_zeros(it.shape[0]) if isinstance(it, Tensor) else it[1] for it in made]
        return torch.stack(weights), torch.stack(biases)

    return affine


def of_one(
    affine: Callable[[Sequence[ChannelLinear]], tuple[Tensor, Tensor]],
) -> Callable[[ChannelLinear], WeightAndBias]:
    """Return a `matrix` that calls `affine` for one layer."""

    def matrix(layer: ChannelLinear) -> WeightAndBias:
        (weight,), (bias,) = affine([layer])
        return weight, bias

    return matrix


def map_pixels(x: Tensor, affine: WeightAndBias) -> Tensor:
    """Return `x` `(B, C, H, W)` with every pixel mapped by a matrix and an offset."""
    weight, bias = affine
    with full_precision(x):
        return as_image(torch.addmm(bias, as_rows(x), weight.t()), x)


def as_rows(x: Tensor) -> Tensor:
    """Return the pixels of `x` `(B, C, H, W)` as rows `(B * H * W, C)`: a view if `x` is in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """Return the images in the shape of `like` whose pixels are `rows`: a view in channels_last."""
    batch_size, channels, height, width = like.shape
    return rows.view(batch_size, height, width, channels).permute(0, 3, 1, 2)


def run_as_matrices(bijections: Sequence[Bijection]) -> list[ChannelLinear]:
    """Return the bijections that run as matrices."""
    return [layer for layer in bijections if isinstance(layer, ChannelLinear) and layer.runs_as_matrix]


def affines(layers: Sequence[ChannelLinear], x: Tensor) -> list[WeightAndBias]:
    """Return the matrices of all layers, on the device of `x`; layers of one kind are computed together."""
    return together(layers, x, lambda alike: zip(*alike[0].affine(alike), strict=True))


def log_abs_dets(layers: Sequence[ChannelLinear], x: Tensor) -> list[Tensor]:
    """Return log|det W| of all layers; layers of one kind are computed together."""
    return together(layers, x, lambda alike: alike[0].log_abs_det(alike))


def inverses(layers: Sequence[ChannelLinear], z: Tensor) -> list[WeightAndBias]:
    """Return W^-1 and -W^-1 b of all layers, computed in float64; layers of one kind are computed together."""
    return [inverse for _, inverse in with_inverses(layers, z)]


def with_inverses(layers: Sequence[ChannelLinear], z: Tensor) -> list[tuple[WeightAndBias, WeightAndBias]]:
    """Return for each layer the pair of what `affines` and `inverses` return for it."""
    return together(layers, z, pairs)


def pairs(alike: Sequence[ChannelLinear]) -> Iterable[tuple[WeightAndBias, WeightAndBias]]:
    """Do the same for layers of one kind."""
    weights, biases = alike[0].affine(alike)
    inverted = torch.linalg.inv(weights.double())
    offsets = -(inverted @ biases.double()[..., None])[..., 0]
    there, back = zip(weights, biases, strict=True), zip(inverted.to(weights), offsets.to(weights), strict=True)
    return zip(there, back, strict=True)


Computed = TypeVar("Computed")


def together(
    layers: Sequence[ChannelLinear], x: Tensor, compute: Callable[[list[ChannelLinear]], Iterable[Computed]]
) -> list[Computed]:
    """Return the result of `compute` for each layer; `compute` is called once for each kind of layer."""
    by_kind: dict[tuple[Any, ...], list[ChannelLinear]] = {}
    for layer in layers:
        by_kind.setdefault(layer.kind, []).append(layer)
    with full_precision(x):
        found = {layer: it for alike in by_kind.values() for layer, it in zip(alike, compute(alike), strict=True)}
    return [found[layer] for layer in layers]
