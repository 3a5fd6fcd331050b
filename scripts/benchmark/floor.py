"""The floor of a training step: only the convolutions of the networks, forward and backward."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.image_flow import ImageFlow
from scripts.benchmark.work import Work


def bare_convolutions(flow: ImageFlow, images: Tensor, form: str) -> Work:
    """Return the forward and backward pass of the convolutions in the networks of `flow`, on random images.

    Args:
        flow: a flow of this project.
        images: uint8 `(B, C, H, W)`; only their size matters.
        form: memory format, "contiguous" or "channels_last".
    """
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: shapes.append((module, inputs[0].shape)))
        for module in flow.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        flow.log_prob(images)
    for hook in hooks:
        hook.remove()

    def random(shape: torch.Size) -> Tensor:
        memory_format = torch.channels_last if form == "channels_last" else torch.contiguous_format
        return torch.randn(shape, device=images.device).contiguous(memory_format=memory_format)

    layers = []
    for conv, shape in shapes:
        x, weight = random(shape).requires_grad_(), random(conv.weight.shape).requires_grad_()
        bias = None if conv.bias is None else torch.randn(conv.out_channels, device=images.device).requires_grad_()
        grad = random(torch.Size((len(images), conv.out_channels, *shape[2:])))
        layers.append((x, weight, bias, conv.padding, grad))

    def step() -> None:
        for x, weight, bias, padding, grad in layers:
            inputs = [x, weight] if bias is None else [x, weight, bias]
            torch.autograd.grad(F.conv2d(x, weight, bias, padding=padding), inputs, grad)

    return step
