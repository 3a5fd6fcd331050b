"""Hooks on modules, which run only where a module is called as such."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook


def is_hooked(module: nn.Module) -> bool:
    """Return whether hooks, or a `forward` set on this one module, want that nothing stands in for calling it."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )
