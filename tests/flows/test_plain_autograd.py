"""Second derivatives, forward mode and the transforms of torch.func: within plain_autograd, or one sentence says so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jvp, vmap

import flows
from flows.image_flow import ImageFlow
from tests.support.perturb import perturb

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # within torch's own forward mode
]

SPECS: dict[str, dict[str, Any]] = {
    "glow": {"name": "glow", "num_steps": 1, "preprocess": "gaussianize", "scale": "tanh4"},
    "memory-flat": {"name": "glow", "num_steps": 1, "memory_flat": True, "dequantize": "variational"},
    "autoregressive": {"name": "glow", "num_steps": 1, "top_prior": "autoregressive", "prior_layers": 1},
    "memory-flat realnvp": {"name": "realnvp", "num_blocks": 1, "memory_flat": True},
}


def make(name: str) -> ImageFlow:
    torch.manual_seed(0)
    return perturb(flows.build(image_shape=(1, 4, 4), num_levels=1, hidden_channels=3, **SPECS[name]), 0.1)


def log_density(flow: ImageFlow, x: Tensor) -> Tensor:
    zs, log_det = flow.multiscale(x.view(-1, 1, 4, 4))
    return log_det.sum() - 0.5 * sum(z.square().sum() for z in zs)


def numerical(f: Callable[[Tensor], Tensor], x: Tensor, along: Tensor, step: float = 1e-5) -> Tensor:
    """The derivative of f at x along a direction, by differences."""
    return (f(x + step * along) - f(x - step * along)) / (2 * step)


def slope(flow: ImageFlow, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(log_density(flow, x), x)[0]


def by_double_backward(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    x = x.requires_grad_()
    (first,) = torch.autograd.grad(log_density(flow, x), x, create_graph=True)
    return torch.autograd.grad(first, x, along)[0]


def by_hessian(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(lambda x: log_density(flow, x), x) @ along


def by_functional_hessian(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    return hessian(lambda x: log_density(flow, x))(x) @ along


def by_vectorised_jacobian(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(
        lambda x: flow.multiscale(x.view(1, 1, 4, 4))[0][0], x, vectorize=True
    )
    return (jacobian @ along).flatten()


def by_forward_mode(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    return jvp(lambda x: log_density(flow, x), (x,), (along,))[1]


def by_dual_numbers(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(log_density(flow, forward_ad.make_dual(x, along))).tangent


def second_derivative(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    return numerical(lambda x: slope(flow, x), x, along)


def first_derivative(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    return (slope(flow, x) * along).sum()


def change_of_latents(flow: ImageFlow, x: Tensor, along: Tensor) -> Tensor:
    with torch.no_grad():
        return numerical(lambda x: flow.multiscale(x.view(1, 1, 4, 4))[0][0].flatten(), x, along)


WAYS = {
    by_double_backward: second_derivative,
    by_hessian: second_derivative,
    by_functional_hessian: second_derivative,
    by_vectorised_jacobian: change_of_latents,
    by_forward_mode: first_derivative,
    by_dual_numbers: first_derivative,
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_within_it_every_derivative_is_right_and_outside_one_sentence_says_so(
    way: Callable[..., Tensor], name: str
) -> None:
    flow, x, along = make(name), 0.8 * torch.rand(16) - 0.4, torch.randn(16)
    expected = WAYS[way](flow, x.clone(), along)
    with flows.plain_autograd():
        found = way(flow, x.clone(), along)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"run its forward pass within `with flows\.plain_autograd\(\):`"):
        way(flow, x.clone(), along)


@pytest.mark.parametrize("name", SPECS)
def test_gradients_of_each_image_are_those_of_one_after_the_other(name: str) -> None:
    flow = make(name)
    images, noise = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8), torch.rand(3, 1, 4, 4)
    parameters = {key: parameter.detach() for key, parameter in flow.named_parameters()}

    def log_prob(parameters: dict[str, Tensor], image: Tensor, noise: Tensor) -> Tensor:
        return functional_call(flow, parameters, (image[None], None, noise[None]))[0]

    def of_each() -> dict[str, Tensor]:
        return vmap(grad(log_prob), in_dims=(None, 0, 0))(parameters, images, noise)

    with flows.plain_autograd():
        found = of_each()
    for place in range(3):
        flow.zero_grad()
        flow.log_prob(images[place : place + 1], None, noise[place : place + 1]).sum().backward()
        for key, parameter in flow.named_parameters():
            torch.testing.assert_close(found[key][place], parameter.grad, rtol=1e-7, atol=1e-9, msg=key)
    with pytest.raises(ValueError, match=r"flows\.plain_autograd"):
        of_each()


def test_it_ends_with_its_block_and_changes_no_value() -> None:
    flow, images, noise = make("glow"), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.full((2, 1, 4, 4), 0.5)
    outside = flow.log_prob(images, None, noise)
    with pytest.raises(KeyError), flows.plain_autograd():
        inside = flow.log_prob(images, None, noise)
        raise KeyError
    torch.testing.assert_close(inside, outside, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="plain_autograd"):
        by_double_backward(flow, torch.zeros(16), torch.ones(16))
