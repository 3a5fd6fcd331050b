"""Gradients by hand: through parts of a graph, where the whole graph is not kept."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pull_back(outputs: Sequence[Tensor], gradients: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients with respect to `inputs`, given those with respect to `outputs`.

    The gradient is None for an input that requires none. Outputs that depend on nothing trainable are left out.
    """
    pairs = [(out, grad) for out, grad in zip(outputs, gradients, strict=True) if out.requires_grad]
    wanted = [place for place, tensor in enumerate(inputs) if tensor.requires_grad]
    found: list[Tensor | None] = [None] * len(inputs)
    if pairs and wanted:
        computed = torch.autograd.grad(
            [out for out, _ in pairs], [inputs[i] for i in wanted], [grad for _, grad in pairs], allow_unused=True
        )
        for place, gradient in zip(wanted, computed, strict=True):
            found[place] = gradient
    return found
