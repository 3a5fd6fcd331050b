"""Moves parameters away from their special starting values."""

import torch
from torch import nn


def perturb(module: nn.Module, size: float = 0.3) -> nn.Module:
    """Add noise to every trained parameter, so that no parameter is zero and no layer is the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))
    return module
