"""Convolutions with ReLU between as one node: the values and the gradients of the modules one after the other."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from flows.conditioner import HIDDEN_CONVS, ConvNet
from tests.perturb import perturb

CONVNETS = {name: partial(ConvNet, 4, 6, 5, hidden_conv) for name, hidden_conv in HIDDEN_CONVS.items()}


def values_and_gradients(net: nn.Module, x: Tensor, layer_by_layer: bool) -> list[Tensor]:
    out = nn.Sequential(*net.children())(x) if layer_by_layer else net(x)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *net.parameters()])]


def image(dtype: torch.dtype | None = None) -> Tensor:
    return torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("name", CONVNETS)
def test_values_and_gradients_are_those_of_the_modules(
    name: str, limit: float | None, memory_format: torch.memory_format
) -> None:
    net = perturb(CONVNETS[name](input_limit=limit), 0.5).to(memory_format=memory_format)
    expected, fused = (values_and_gradients(net, image(torch.float64), plain) for plain in (True, False))
    torch.testing.assert_close(fused, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CONVNETS)
def test_autocast_lowers_the_precision_of_the_convolutions_alone(name: str) -> None:
    net = perturb(CONVNETS[name](), 0.5)
    exact = values_and_gradients(net, image(), layer_by_layer=False)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = values_and_gradients(net, image(), layer_by_layer=False)
    assert rounded[0].dtype == torch.bfloat16
    for one, other in zip(exact, rounded, strict=True):
        assert 0 < (one - other).norm() < 0.03 * one.norm()
    assert all(gradient.dtype == torch.float32 for gradient in rounded[1:])


def test_weights_without_gradients_get_none() -> None:
    net = perturb(CONVNETS["actnorm"](), 0.5)
    net[2].requires_grad_(False)
    net(image()).sum().backward()
    assert net[2].weight.grad is None and net[0].weight.grad is not None


def test_hooks_of_the_layers_run() -> None:
    net = perturb(CONVNETS["actnorm"](), 0.5)
    seen: list[nn.Module] = []
    hook = net[2].register_forward_hook(lambda module, inputs, output: seen.append(module))
    hooked = net(image())
    hook.remove()
    assert seen == [net[2]]
    torch.testing.assert_close(net(image()), hooked)
