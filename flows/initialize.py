"""Data-dependent initialisation: one pass over a batch sets every activation normalisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn


class DataDependent(ABC):
    """A module whose starting parameters depend on the first batch that reaches it."""

    @abstractmethod
    def initialize(self, x: Tensor) -> None:
        """Set the parameters from `x`, the input of the module, `(B, C, H, W)`."""


@torch.no_grad()
def initialize(
    module: nn.Module, *args: Tensor | None, parts: Iterable[nn.Module] | None = None, **kwargs: Tensor | None
) -> None:
    """Run `module(*args, **kwargs)` once; every DataDependent part sets its parameters just before it runs.

    `forward` itself never initialises, so a loaded model is never initialised again. The flow's attribute `initialized`
    records that initialisation was done. (Salimans & Kingma 2016, section 3; Glow, section 3.1.)

    Args:
        module: for example a flow.
        args: of its `forward`.
        parts: the DataDependent parts that set their parameters; None for all of them.
        kwargs: of its `forward`.

    Raises:
        ValueError: if there is no image to initialise on, or no labels for a flow with classes.
    """
    module = cast(nn.Module, getattr(module, "_orig_mod", module))  # torch.compile wraps a module
    given = signature(module.forward).bind(*args, **kwargs).arguments
    if getattr(module, "num_classes", None) is not None and given.get("label") is None:
        raise ValueError("a class-conditional flow is initialised with labels: flows.initialize(flow, images, label)")
    modules: list[Any] = list(module.modules())
    chosen = module.modules() if parts is None else parts
    hooks = [part.register_forward_pre_hook(start) for part in chosen if isinstance(part, DataDependent)]
    flows = {part: part.initialized for part in modules if hasattr(type(part), "initialized")}
    try:
        for flow in flows:
            flow.initialized = True
        module(*args, **kwargs)
    except BaseException:
        for flow, before in flows.items():
            flow.initialized = before
        raise
    finally:
        for hook in hooks:
            hook.remove()


def start(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let a part set its parameters; a hook."""
    assert isinstance(part, DataDependent)
    if len(inputs[0]) == 0:
        raise ValueError("initialisation takes at least one image, got none")
    part.initialize(inputs[0])


def standardizing_affine(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `bias` and `log_scale`, both `(C,)`, that give (x + bias) * exp(log_scale) mean 0 and variance 1.

    A channel that is constant over the batch keeps scale 1.
    """
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    std = variance.sqrt()
    return -mean, torch.where(std > 1e-6, -std.clamp(min=1e-6).log(), 0.0)
