"""A short name of the weights of a flow, by which files know to which flow they belong."""

from hashlib import sha256

import torch

from flows.image_flow import ImageFlow


def fingerprint(flow: ImageFlow) -> str:
    """Return 16 hexadecimal digits that depend on all weights and buffers of a flow, whatever its device."""
    digest = sha256()
    for name, value in sorted(flow.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
