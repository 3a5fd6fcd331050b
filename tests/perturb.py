"""Moving parameters away from their special starting points."""

import torch
from torch import nn


def perturb(module: nn.Module, size: float = 0.3) -> nn.Module:
    """Add noise to every parameter, so that nothing is zero or the identity any more."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return module
