"""torch.compile for the way from latents to images of a flow that does not change any more."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.elementwise import MixtureLogistic
from flows.multiscale import Multiscale

KEEPS_APART = "isolate_recompiles" in signature(torch.compile).parameters
"""Whether this version of torch can keep the graphs of two flows apart, even if nothing compares their layers."""


def compiled_inverse(multiscale: Multiscale, known: bool) -> Callable[..., Tensor]:
    """Return the compiled `multiscale.inverse`.

    Autoregressive maps are left out, and mixture maps are compiled in pieces. Flows without them are compiled into one
    graph. Then only arguments are compared at each call, not the layers: at 3x64x64 the comparisons of all layers would
    take a twelfth of the time of one image. On the CPU this graph is called from C++.

    Args:
        multiscale: the layers, which must not change after this. Autoregressive maps among them are changed in place.
        known: whether all layers are of this project or of torch. Others may not fit into one graph.
    """
    layers = list(multiscale.modules())
    transformers = [layer for layer in layers if isinstance(layer, AutoregressiveTransformer)]
    for layer in transformers:
        layer.inverse = torch.compiler.disable(layer.inverse)  # type: ignore[method-assign]
    in_pieces = transformers or any(isinstance(layer, MixtureLogistic) for layer in layers)
    if in_pieces or not known or not KEEPS_APART:
        return torch.compile(multiscale.inverse)
    on_cpu = all(parameter.device.type == "cpu" for parameter in multiscale.parameters())
    return torch.compile(  # type: ignore[call-overload]
        multiscale.inverse,
        fullgraph=True,
        isolate_recompiles=True,
        options={"guard_filter_fn": guards_without_layers, "cpp_wrapper": on_cpu},
    )


def guards_without_layers(guards: Sequence[Any]) -> list[bool]:
    """Return which of the comparisons are made at each call: those that concern neither layers nor global names."""
    on_layers = torch.compiler.skip_guard_on_all_nn_modules_unsafe(guards)
    on_globals = torch.compiler.skip_guard_on_globals_unsafe(guards)
    return [all(keep) for keep in zip(on_layers, on_globals, strict=True)]
