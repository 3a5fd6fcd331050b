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
    """Let torch's own autograd differentiate what a flow computes in this context: slower, but without limits.

    The gradients that are written by hand (`fused_convs`, `memory_flat`) only give first derivatives, by `backward` or
    `torch.autograd.grad`. Second derivatives, forward mode and the transforms of `torch.func` (`grad`, `vmap`, `jvp`)
    need a forward pass in this context. Values are the same up to rounding; memory-flat training is off.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Return whether torch's own autograd is to differentiate."""
    return _plain.get()


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` is active."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def refuse_transforms() -> None:
    """Raise ValueError under a transform of `torch.func`, which gradients written by hand do not support."""
    if is_transformed():
        refuse()


def refuse_more_than_first_order(grad: Tensor) -> None:
    """Raise ValueError if a backward pass from `grad` is vectorised, or if its result is to be differentiated."""
    if torch.is_grad_enabled() or is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad):
        refuse()


def refuse(ctx: Any = None, *grad_inputs: Any) -> Any:
    """Raise ValueError; the message says how to differentiate instead."""
    raise ValueError(
        "second derivatives, forward mode and torch.func transforms of a flow need torch's own autograd: run its "
        "forward pass within `with flows.plain_autograd():`"
    )
