"""Autocast, which may lower the precision in networks, and nowhere else."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def is_autocast(x: Tensor) -> bool:
    """Return whether autocast is on, on the device of `x` (the meta device has none)."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switch autocast off on the device of `x`, if it is on."""
    return torch.autocast(x.device.type, enabled=False) if is_autocast(x) else nullcontext()


def network_precision(x: Tensor) -> torch.dtype:
    """Return the precision in which a network computes that reads `x`."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype
