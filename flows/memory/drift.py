"""Whether a flow can train in flat memory, and how exactly its layers rebuild their inputs."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.bijections.chain import Chain
from flows.bijections.preprocess import Gaussianize
from flows.context import Context
from flows.image_flow import ImageFlow
from flows.multiscale import Multiscale

DRIFT_LIMIT = 1e-2
"""Limit of `Chain.drift`: above it, gradients cannot be trusted. Values between bijections are about 1."""


def train_memory_flat(flow: ImageFlow) -> None:
    """Make the chains in the levels of `flow` train in memory that does not grow with their length.

    The prior at the top stays outside: it may be a chain whose inverse is not exact.

    Raises:
        ValueError: if there is no chain, or if a layer has no exact inverse; the message names the layer.
    """
    outside = {*flow.multiscale.top.modules()} if isinstance(flow.multiscale, Multiscale) else set()
    chains = [module for module in flow.modules() if isinstance(module, Chain) and module not in outside]
    if not any(set(chain.parameters()) - of_first_layers(chain) for chain in chains):
        raise ValueError(f"memory_flat has nothing to rebuild in {type(flow).__name__}: leave it out")
    for name, module in flow.named_modules():
        if module not in outside and not getattr(module, "exact_inverse", True):
            raise ValueError(
                f"memory_flat rebuilds inputs by inverses, and {name} ({type(module).__name__}) has no exact one: "
                "set memory_flat=false, or take another layer in its place"
            )
    for chain in chains:
        chain.memory_flat = True
    flow.memory_flat = True


def of_first_layers(chain: Chain) -> set[nn.Parameter]:
    """Return the parameters of the layers that see the grey values, of which there is at most one in a chain."""
    return {parameter for part in chain if isinstance(part, Gaussianize) for parameter in part.parameters()}


def largest_drift(flow: nn.Module) -> Tensor | None:
    """Return the largest drift of the last backward pass over all chains; None if nothing was rebuilt."""
    drifts = [module.drift for module in flow.modules() if isinstance(module, Chain) and module.drift is not None]
    return torch.stack(drifts).max() if drifts else None


@torch.no_grad()
def least_exact(flow: nn.Module, *args: Tensor | None) -> tuple[str, float]:
    """Return the name of the bijection that rebuilds its own input worst, and the largest error of this input.

    Args:
        flow: the module that holds the chains of bijections.
        args: the arguments of its `forward`.
    """
    errors: dict[str, float] = {}

    def compare(name: str, bijection: Bijection, x: Tensor, z: Tensor, *context: Context) -> None:
        errors[name] = (bijection.inverse(z, *context) - x).abs().max().item()

    hooks = [
        bijection.register_forward_hook(
            lambda module, inputs, outputs, name=name: compare(name, module, inputs[0], outputs[0], *inputs[1:])
        )
        for name, bijection in chained_bijections(flow)
    ]
    try:
        flow.forward(*args)  # not its compiled form, which runs no hooks
    finally:
        for hook in hooks:
            hook.remove()
    name = max(errors, key=lambda name: errors[name])
    return name, errors[name]


def chained_bijections(flow: nn.Module) -> Iterator[tuple[str, Bijection]]:
    """Return the bijections that the chains in `flow` rebuild, by name."""
    for name, chain in flow.named_modules():
        if isinstance(chain, Chain) and chain.memory_flat:
            for place, bijection in enumerate(chain):
                if not isinstance(bijection, Chain):
                    yield f"{name}.bijections.{place}", bijection
