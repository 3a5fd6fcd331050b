"""How the layers of a flow map points of the grid, each reversible to the point."""

from copy import deepcopy
from functools import singledispatch
from typing import Protocol

import torch
from torch import Tensor

from flows.bijection import Bijection
from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.chain import Chain
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import ElementwiseMap
from flows.bijections.linear import ChannelLinear, affines
from flows.bijections.preprocess import Gaussianize, Logit
from flows.bijections.reshape import Squeeze
from flows.coding.cells import CELL, STEP, Map, back_through, through, undone, values_at
from flows.coding.linear import Lifted, everywhere
from flows.coding.stack import BitStack
from flows.context import Context
from flows.overriding import is_newer

CUBE_CELLS = round(0.5 / (STEP * CELL))
"""Cells on each side of 0 of the cube [-1/2, 1/2)."""


class LayerCode(Protocol):
    """A layer as a map of points int64 `(B, C, H, W)`."""

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        """Map points as the layer's `forward` does."""

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        """Undo `through`, on points and stack."""


@singledispatch
def code_of(layer: Bijection) -> LayerCode:
    """Return the code of a layer; `code_of.register` adds those of other layers.

    Raises:
        ValueError: if there is none.
    """
    raise no_code(layer)


def no_code(layer: Bijection) -> ValueError:
    """Return the error that a layer has no code."""
    return ValueError(f"there is no lossless code for layers of type {type(layer).__name__}: take another flow")


def has_own_forward(layer: Bijection, kind: type[Bijection]) -> bool:
    """Return whether a layer, or its class, maps in another way than its kind."""
    return "forward" in vars(layer) or type(layer).forward is not kind.forward


def as_input(points: Tensor) -> Tensor:
    """Return points as networks read them."""
    return values_at(points).float()


@code_of.register(Chain)
class ChainCode:
    """One layer after the other."""

    def __init__(self, chain: Chain) -> None:
        if has_own_forward(chain, Chain):
            raise no_code(chain)
        self.codes = [code_of(layer) for layer in chain]

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        for code in self.codes:
            points = code.through(points, stack, context)
        return points

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        for code in reversed(self.codes):
            points = code.back_through(points, stack, context)
        return points


@code_of.register(Squeeze)
class SqueezeCode:
    """Points change their places."""

    def __init__(self, squeeze: Squeeze) -> None:
        self.squeeze = squeeze

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return self.squeeze(points)[0].contiguous()

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return self.squeeze.inverse(points).contiguous()


@code_of.register(Gaussianize)
@code_of.register(Logit)
class PreprocessCode:
    """A map of the cube, in float64."""

    def __init__(self, layer: Bijection) -> None:
        self.layer = deepcopy(layer).double()

    def mapped(self, x: Tensor) -> Tensor:
        """Return the image of `x`."""
        return self.layer(x)[0]

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return through(self.mapped, points, stack, everywhere(points))

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return back_through(self.mapped, points, stack, everywhere(points), CUBE_CELLS)


@code_of.register(ChannelLinear)
class LinearCode:
    """A matrix and an offset."""

    def __init__(self, layer: ChannelLinear) -> None:
        ways = ("forward", "transform", "inverse")
        if "forward" in vars(layer) or any(is_newer(type(layer), way, than="affine") for way in ways):
            raise no_code(layer)
        (affine,) = affines([layer], next(layer.parameters(), torch.empty(())))
        self.lifted = Lifted(affine)

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return self.lifted.through(points, stack)

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        return self.lifted.back_through(points, stack)


def steered(elementwise: ElementwiseMap, raw: Tensor) -> Map:
    """Return the map that `raw` steers, in float64; of affine maps, what does not depend on `x` is computed once."""
    raw = raw.double()
    if not elementwise.is_affine:
        return lambda x: elementwise(x, raw)[0]
    mean, log_sigma = elementwise.mean_and_log_sigma(raw).chunk(2, 1)
    scale = (-log_sigma).exp()
    return lambda x: (x - mean) * scale


@code_of.register(Coupling)
class CouplingCode:
    """One part steers the map of the other."""

    def __init__(self, coupling: Coupling) -> None:
        if has_own_forward(coupling, Coupling):
            raise no_code(coupling)
        self.coupling = coupling

    def steer(self, x1: Tensor, context: Context | None) -> Map:
        """Return the map of the other part."""
        return steered(self.coupling.elementwise, self.coupling.steer(as_input(x1), context))

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        mask = self.coupling.mask
        x1, x2 = mask.split(points)
        return mask.merge(x1, through(self.steer(x1, context), x2, stack, mask.select(torch.ones_like(x2)) > 0))

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        mask = self.coupling.mask
        z1, z2 = mask.split(points)
        return mask.merge(z1, back_through(self.steer(z1, context), z2, stack, mask.select(torch.ones_like(z2)) > 0))


@code_of.register(AutoregressiveTransformer)
class AutoregressiveCode:
    """Each token is steered by those before it. Both ways, the transformer reads one token after the other."""

    def __init__(self, layer: AutoregressiveTransformer) -> None:
        self.layer = layer

    def through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        columns = self.layer.as_columns(points)
        reader = TokenReader(self.layer, as_input(points), context)
        raws = []
        for place in range(self.layer.num_tokens):
            raws.append(reader.steer(place))
            reader.read(columns[:, :, place : place + 1])
        mapped = steered(self.layer.elementwise, torch.cat(raws, 2))
        return self.layer.as_image(through(mapped, columns, stack, everywhere(columns)))

    def back_through(self, points: Tensor, stack: BitStack, context: Context | None) -> Tensor:
        columns = self.layer.as_columns(points)
        rest = stack.pop(torch.full_like(columns, CELL))
        reader = TokenReader(self.layer, as_input(points), context)
        tokens = []
        for place in range(self.layer.num_tokens):
            here = columns[:, :, place : place + 1]
            mapped = steered(self.layer.elementwise, reader.steer(place))
            tokens.append(undone(mapped, here, rest[:, :, place : place + 1], everywhere(here)))
            reader.read(tokens[-1][0])
        found, left, width = (torch.cat(parts, 2) for parts in zip(*tokens, strict=True))
        stack.push(left, width)
        return self.layer.as_image(found)


class TokenReader:
    """A transformer that reads tokens one by one, and steers the next.

    Args:
        layer: whose transformer it is.
        like: `(B, C, H, W)` in the precision of the transformer; its numbers are not read.
        context: of the layer.
    """

    def __init__(self, layer: AutoregressiveTransformer, like: Tensor, context: Context | None) -> None:
        self.layer = layer
        self.like = like
        self.known = layer.known(like, context)
        self.caches = layer.transformer.empty_caches(len(like), layer.num_tokens, self.known)
        self.token = layer.start.expand(len(like), 1, -1)

    def steer(self, place: int) -> Tensor:
        """Return the raw steering values of the token at a place."""
        token = self.token + self.known[:, place : place + 1]
        return self.layer.as_raw(self.layer.transformer.step(token, place, self.caches), self.like)

    def read(self, points: Tensor) -> None:
        """Read the token that was steered last, `(B, C, 1, 1)`."""
        self.token = self.layer.tokens_of(as_input(points))
