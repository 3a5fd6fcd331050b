"""Hooks on modules, which run only where a module is called as such."""

from torch import nn


def is_hooked(module: nn.Module) -> bool:
    """Return whether `module` has hooks of its own, so that nothing may stand in for calling it."""
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
    )
