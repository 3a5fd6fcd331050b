"""Torch's own autograd in place of the gradients that are written by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_plain = ContextVar("plain_autograd", default=False)


@contextmanager
def plain_autograd() -> Iterator[None]:
    """Let torch alone differentiate what a flow computes within: slower, but in every way that torch knows.

    The gradients that are written by hand (`conv_relu`, `memory_flat`) are first derivatives by `backward` or
    `torch.autograd.grad`. Second derivatives, forward mode and the transforms of `torch.func` (`grad`, `vmap`, `jvp`)
    need a forward pass within this context. Values are the same up to rounding; memory-flat training is off.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Return whether torch alone is to differentiate."""
    return _plain.get()


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` is at work."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def refuse_transforms() -> None:
    """Raise ValueError under a transform of `torch.func`, which gradients that are written by hand do not know."""
    if is_transformed():
        refuse()


def refuse_more_than_first_order(grad: Tensor) -> None:
    """Raise ValueError in a backward pass from `grad` whose result is to be differentiated, or that is vectorised."""
    if torch.is_grad_enabled() or is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad):
        refuse()


def refuse(ctx: Any = None, *grad_inputs: Any) -> Any:
    """Raise ValueError; the message says how to differentiate otherwise."""
    raise ValueError(
        "second derivatives, forward mode and torch.func transforms of a flow need torch's own autograd: run its "
        "forward pass within `with flows.plain_autograd():`"
    )
