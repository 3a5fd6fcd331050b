"""Hooks on modules, which run only if the module itself is called."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook


def is_hooked(module: nn.Module) -> bool:
    """Return whether a module must itself be called, because of its hooks or a `forward` set on this one module."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )
