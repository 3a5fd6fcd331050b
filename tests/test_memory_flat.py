"""Memory-flat training: the same gradients, in memory that does not grow with the number of steps."""

import pytest
import torch
from torch import Tensor

import flows
from flows.bijection import Chain
from flows.likelihood import bits_per_dim
from tests.perturb import perturb


def built(memory_efficient: bool, **spec: object) -> flows.ImageFlow:
    torch.manual_seed(0)
    flow = perturb(flows.build(**{"image_shape": (2, 8, 8), "num_levels": 2, "hidden_channels": 4, **spec}), 0.2)
    for module in flow.modules():
        if isinstance(module, Chain):
            module.memory_efficient = memory_efficient
    return flow


def loss(flow: flows.ImageFlow, num_images: int = 3) -> Tensor:
    images = torch.randint(0, 256, (num_images, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return bits_per_dim(flow.log_prob(images, noise=noise), flow.num_dims).mean()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "spec",
    [
        {"name": "glow", "num_steps": 3},
        {"name": "glow", "num_steps": 2, "permutation": "conv1x1_lu", "coupling": "additive"},
        {"name": "glow", "num_steps": 2, "permutation": "random", "conditioner": "plain", "scale": "learned_tanh"},
        {"name": "realnvp", "num_blocks": 1},
    ],
    ids=str,
)
def test_value_and_gradients_are_those_of_plain_training(spec: dict[str, object]) -> None:
    plain, flat = built(False, **spec), built(True, **spec)
    losses = [loss(flow) for flow in (plain, flat)]
    for value in losses:
        value.backward()
    assert losses[0].item() == losses[1].item()
    for (name, one), other in zip(plain.named_parameters(), flat.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-9, msg=name)


def saved_bytes(flow: flows.ImageFlow) -> int:
    """The size of what is kept for the backward pass, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in flow.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss(flow, num_images=16)
    del value
    return sum(kept.values())


@pytest.mark.usefixtures("double")
def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    flat = [saved_bytes(built(True, name="glow", num_steps=num_steps)) for num_steps in (2, 8)]
    plain = [saved_bytes(built(False, name="glow", num_steps=num_steps)) for num_steps in (2, 8)]
    assert flat[0] == flat[1] < plain[0] < plain[1]


def test_without_gradients_nothing_changes() -> None:
    flow = built(True, name="glow", num_steps=1)
    with torch.no_grad():
        images = torch.zeros(1, 2, 8, 8, dtype=torch.uint8)
        assert torch.equal(
            flow.log_prob(images, noise=torch.zeros(1, 2, 8, 8)),
            built(False, name="glow", num_steps=1).log_prob(images, noise=torch.zeros(1, 2, 8, 8)),
        )


def test_autocast_reaches_the_way_back() -> None:
    flow = built(True, name="glow", num_steps=1)
    seen: list[torch.dtype] = []
    for module in flow.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(flow)
    value.backward()
    assert len(seen) == 2 * 2 * 2 and set(seen) == {torch.bfloat16}
