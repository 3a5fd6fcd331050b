"""Neighbouring channel-linear bijections as one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flows.bijections.linear import ChannelLinear
from flows.initialize import DataDependent
from flows.overriding import is_newer


class Folded(ChannelLinear, DataDependent):
    """Neighbouring channel-linear bijections run as one 1x1 convolution: W = W_n ... W_2 W_1.

    Raises:
        ValueError: if a member overrides `forward` and does not override `affine` with it.
    """

    def __init__(self, *members: ChannelLinear) -> None:
        super().__init__()
        for member in members:
            if is_newer(type(member), "forward", than="affine"):
                name = type(member).__name__
                raise ValueError(f"{name} has a forward of its own, but Folded goes by affine: give {name} both")
        self.channels = members[0].channels
        self.members: Sequence[ChannelLinear] = nn.ModuleList(members)  # type: ignore[assignment]

    @property
    def kind(self) -> tuple[Any, ...]:
        return type(self), *(member.kind for member in self.members)

    @staticmethod
    def affine(layers: Sequence["Folded"]) -> tuple[Tensor, Tensor]:
        first, *rest = zip(*(layer.members for layer in layers), strict=True)
        weights, biases = first[0].affine(first)
        dtype = next(layers[0].parameters(), weights).dtype  # a permutation has no dtype of its own
        weights, biases = weights.to(dtype), biases.to(dtype)
        for members in rest:
            next_weights, next_biases = (part.to(dtype) for part in members[0].affine(members))
            weights, biases = next_weights @ weights, (next_weights @ biases[..., None])[..., 0] + next_biases
        return weights, biases

    @classmethod
    def log_abs_det(cls, layers: Sequence["Folded"]) -> Tensor:
        parts = zip(*(layer.members for layer in layers), strict=True)
        return torch.stack([members[0].log_abs_det(members) for members in parts]).sum(0)

    def initialize(self, x: Tensor) -> None:
        for member in self.members:
            x, _ = member(x)
