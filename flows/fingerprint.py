"""A short name of the weights of a flow, by which files know to which flow they belong, or of other weights."""

from hashlib import sha256

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits that depend on all weights and buffers of a module, whatever its device."""
    digest = sha256()
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
