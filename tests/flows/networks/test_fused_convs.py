"""Convolutions with activations between as one node: values and gradients of the modules one after the other."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import flows
from flows.networks.conditioner import ACTIVATIONS, HIDDEN_CONVS, ActNormConv2d, ConvNet
from flows.networks.fused_convs import ScaledConv2d
from tests.support.perturb import perturb

CONVNETS = {name: partial(ConvNet, 4, 6, 5, hidden_conv) for name, hidden_conv in HIDDEN_CONVS.items()}
CONVNETS |= {name: partial(CONVNETS["actnorm"], activation=activation) for name, activation in ACTIVATIONS.items()}


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


class Doubled(nn.Conv2d):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class DoubledScaled(ActNormConv2d):
    """Likewise, of the project's own convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class LowRank(nn.Module):
    """A convolution with something beside it, as LoRA has it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.beside = nn.Conv2d(conv.in_channels, conv.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.beside(x)


def conv(in_channels: int, out_channels: int, size: int, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, **{"padding": size // 2, **settings})


def hidden(make: Callable[..., nn.Module], **settings: object) -> Callable[[], ConvNet]:
    return lambda: ConvNet(4, 6, 5, partial(make, **settings))


def changed(place: int, change: Callable[[nn.Module], nn.Module]) -> Callable[[], ConvNet]:
    """A ConvNet one of whose layers is changed."""

    def make() -> ConvNet:
        net = ConvNet(4, 6, 5, HIDDEN_CONVS["actnorm"])
        net[place] = change(net[place])
        return net

    return make


def inserted(place: int, layer: nn.Module) -> Callable[[], ConvNet]:
    def make() -> ConvNet:
        net = ConvNet(4, 6, 5, HIDDEN_CONVS["plain"], input_limit=2.0)
        net.insert(place, layer)
        return net

    return make


def without_bias(layer: nn.Module) -> nn.Module:
    layer.bias = None
    return layer


def with_reflect_padding(layer: nn.Module) -> nn.Module:
    scaled = ScaledConv2d(5, 5, 3)
    scaled.padding_mode, scaled._reversed_padding_repeated_twice = "reflect", [1, 1, 1, 1]
    return scaled


def with_own_forward(layer: nn.Module) -> nn.Module:
    inner = layer.forward
    layer.forward = lambda x: 2 * inner(x)
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", amount=0.5)


UNUSUAL: dict[str, Callable[[], ConvNet]] = {
    "reflect padding": hidden(conv, padding_mode="reflect"),
    "no padding": hidden(conv, padding=0),
    "padding by name": hidden(conv, padding="same"),
    "stride": hidden(conv, stride=2),
    "dilation": hidden(conv, dilation=2),
    "no bias": hidden(conv, bias=False),
    "subclass": hidden(Doubled, padding="same"),
    "subclass of the project's": hidden(DoubledScaled),
    "weight norm": hidden(lambda *sizes: weight_norm(conv(*sizes))),
    "no bias in a scaled one": changed(2, without_bias),
    "scaled, other settings": changed(2, with_reflect_padding),
    "groups": changed(2, lambda layer: conv(5, 5, 3, groups=5)),
    "GELU": changed(1, lambda layer: nn.GELU()),
    "leaky ReLU": changed(3, lambda layer: nn.LeakyReLU(0.2)),
    "GELU at the end": changed(3, lambda layer: nn.GELU()),
    "GELU by tanh": changed(3, lambda layer: nn.GELU("tanh")),
    "no activation": changed(3, lambda layer: nn.Identity()),
    "spectral norm": changed(2, lambda layer: spectral_norm(layer).eval()),
    "pruning": changed(2, pruned),
    "something beside": changed(2, LowRank),
    "a forward of its own": changed(2, with_own_forward),
    "a nested Sequential": changed(2, lambda layer: nn.Sequential(layer, nn.GELU())),
    "norm inserted": inserted(1, nn.InstanceNorm2d(4)),
    "norm at the end": inserted(6, nn.Softplus()),
    "something in front": inserted(0, nn.Tanh()),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", UNUSUAL)
def test_other_layers_are_computed_and_differentiated_as_they_are(name: str) -> None:
    net = perturb(UNUSUAL[name](), 0.3)
    x = torch.randn(2, 4, 12, 12).requires_grad_()
    with torch.no_grad():
        evaluated = net(x)
    trained = net(x)
    torch.testing.assert_close(trained, evaluated, rtol=1e-12, atol=1e-12)
    expected = nn.Sequential.forward(net, x)
    weights = torch.randn_like(trained)
    wanted = [x, *(parameter for parameter in net.parameters() if parameter.requires_grad)]
    gradients = [torch.autograd.grad((out * weights).sum(), wanted) for out in (trained, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_hooks_on_all_modules_run() -> None:
    net, seen = CONVNETS["actnorm"](), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(module))
    try:
        net(image())
    finally:
        hook.remove()
    assert seen == [*net, net]


@pytest.mark.parametrize("memory_flat", [False, True])
def test_activations_may_be_checkpointed_or_offloaded(memory_flat: bool) -> None:
    spec = {"image_shape": (1, 4, 4), "num_levels": 1, "num_steps": 2, "hidden_channels": 4}
    chain = perturb(flows.build("glow", **spec, memory_flat=memory_flat), 0.1).multiscale.levels[0]
    x = torch.randn(2, 1, 4, 4).requires_grad_()

    def gradients(run: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        z, log_det = run(x)
        return torch.autograd.grad(z.square().sum() + log_det.sum(), [x, *chain.parameters()])

    def offloaded(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autograd.graph.save_on_cpu():
            return chain(x)

    expected = gradients(chain)
    torch.testing.assert_close(gradients(partial(checkpoint, chain, use_reentrant=False)), expected)
    torch.testing.assert_close(gradients(offloaded), expected)
