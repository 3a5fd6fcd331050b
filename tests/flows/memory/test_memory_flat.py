"""Memory-flat training: the same gradients, in memory that does not grow with the number of steps."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flows
from flows.bijection import Bijection
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1, InvertibleConv1x1LU
from flows.bijections.coupling import Coupling
from flows.bijections.preprocess import PREPROCESSES
from flows.likelihood import bits_per_dim
from flows.memory.drift import largest_drift, least_exact
from scripts.benchmark.memory import peak_bytes
from tests.support.perturb import perturb
from tests.support.run import run_training
from tests.support.same_run import read_metrics


def built(memory_flat: bool, amount: float = 0.2, **spec: object) -> flows.ImageFlow:
    torch.manual_seed(0)
    sizes = {"image_shape": (2, 8, 8), "num_levels": 2, "hidden_channels": 4}
    return perturb(flows.build(**{**sizes, **spec}, memory_flat=memory_flat), amount)


def loss(flow: flows.ImageFlow, num_images: int = 3) -> Tensor:
    images = torch.randint(0, 256, (num_images, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    label = None if flow.num_classes is None else torch.arange(num_images) % flow.num_classes
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return bits_per_dim(flow.log_prob(images, label, noise), flow.num_dims).mean()


def gradient(flow: flows.ImageFlow) -> Tensor:
    """The gradient with respect to all parameters, as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in flow.parameters() if parameter.grad is not None])


def relative_difference(plain: flows.ImageFlow, flat: flows.ImageFlow) -> float:
    for flow in (plain, flat):
        loss(flow).backward()
    one, other = gradient(plain), gradient(flat)
    return ((one - other).norm() / one.norm()).item()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "spec",
    [
        {"name": "glow", "num_steps": 3},
        {"name": "glow", "num_steps": 3, "preprocess": "gaussianize", "top_prior": "position", "num_classes": 3},
        {"name": "glow", "num_steps": 3, "top_prior": "autoregressive", "prior_width": 32, "num_classes": 3},
        {"name": "glow", "num_steps": 2, "permutation": "conv1x1_lu", "coupling": "additive"},
        {"name": "glow", "num_steps": 2, "permutation": "random", "conditioner": "plain", "scale": "learned_tanh"},
        {"name": "glow", "num_steps": 2, "dequantize": "variational"},
        {"name": "realnvp", "num_blocks": 1},
        {"name": "realnvp", "num_blocks": 1, "top_prior": "autoregressive", "prior_width": 32},
        {"name": "realnvp", "num_blocks": 1, "preprocess": "gaussianize", "num_levels": 3, "hidden_channels": 2},
    ],
    ids=str,
)
def test_the_gradient_is_that_of_plain_training(spec: dict[str, object]) -> None:
    plain, flat = built(False, **spec), built(True, **spec)
    assert loss(plain).item() == loss(flat).item()
    assert relative_difference(plain, flat) < 1e-9
    for (name, one), other in zip(plain.named_parameters(), flat.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-9, msg=name)


def test_the_gradient_of_many_steps_holds_in_single_precision() -> None:
    spec = {"name": "glow", "num_steps": 32, "scale": "tanh4", "coupling": "affine"}
    assert relative_difference(built(False, 0.05, **spec), built(True, 0.05, **spec)) < 1e-2


@pytest.mark.usefixtures("double")
def test_matrices_may_stand_anywhere_in_a_chain_and_have_hooks() -> None:
    """At its ends, next to each other, of different kinds, or with a hook that must run."""
    spec = {"image_shape": (1, 4, 4), "num_levels": 1, "num_steps": 2, "hidden_channels": 4, "scale": "tanh4"}
    first, second = (layer for layer in flows.build("glow", **spec).multiscale.levels[0] if isinstance(layer, Coupling))
    layers = [InvertibleConv1x1(4), first, InvertibleConv1x1LU(4), InvertibleConv1x1(4), second, InvertibleConv1x1LU(4)]
    chain = perturb(Chain(*layers), 0.2)
    seen: list[Tensor] = []
    layers[3].register_forward_hook(lambda module, inputs, outputs: seen.append(inputs[0]))
    x = torch.randn(3, 4, 2, 2, requires_grad=True)
    gradients = []
    for chain.memory_flat in (False, True):
        z, log_det = chain(x)
        loss = (z * torch.linspace(-1, 1, z.numel()).view(z.shape)).sum() + (log_det * torch.arange(3.0)).sum()
        gradients.append(torch.autograd.grad(loss, [x, *chain.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)
    assert len(seen) >= 2


def shared_layers() -> dict[str, list[Bijection]]:
    """Chains in which a layer, or a parameter, has more than one place."""
    spec = {"image_shape": (1, 4, 4), "num_levels": 1, "num_steps": 2, "hidden_channels": 4, "scale": "tanh4"}
    first, second = (layer for layer in flows.build("glow", **spec).multiscale.levels[0] if isinstance(layer, Coupling))
    one, other = InvertibleConv1x1(4), InvertibleConv1x1(4)
    tied, with_it = InvertibleConv1x1(4), InvertibleConv1x1(4)
    with_it.weight = tied.weight
    return {
        "matrix twice": [first, one, second, other, one],
        "matrix twice, once at the start": [one, first, one, second, other],
        "matrix thrice in a row": [first, one, one, one],
        "coupling twice": [one, first, other, first],
        "one parameter in two matrices": [first, tied, second, with_it],
        "a chain in the chain": [first, Chain(one, second, one), Chain(second, other)],
        "a chain twice": [first, *[Chain(one, second)] * 2],
        "more than are inverted together": [first, one, *(InvertibleConv1x1(4) for _ in range(9)), one],
    }


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", shared_layers())
def test_a_layer_may_have_more_than_one_place(name: str) -> None:
    chain = perturb(Chain(*shared_layers()[name]), 0.1)
    x = torch.randn(3, 4, 2, 2, requires_grad=True)
    gradients = []
    for chain.memory_flat in (False, True):
        z, log_det = chain(x)
        loss = (z * torch.linspace(-1, 1, z.numel()).view(z.shape)).sum() + (log_det * torch.arange(3.0)).sum()
        gradients.append(torch.autograd.grad(loss, [x, *chain.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_two_chains_may_share_a_layer() -> None:
    shared = InvertibleConv1x1(4)
    chains = [Chain(InvertibleConv1x1(4), shared), Chain(shared, InvertibleConv1x1(4), shared)]
    gradients = []
    for memory_flat in (False, True):
        x, total = torch.ones(2, 4, 2, 2), torch.zeros(())
        for chain in chains:
            chain.memory_flat = memory_flat
            x, log_det = chain(x)
            total = total + log_det.sum()
        gradients.append(torch.autograd.grad(x.square().sum() + total, list(nn.ModuleList(chains).parameters())))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_gradients_accumulate() -> None:
    once, twice = (built(True, name="glow", num_steps=2) for _ in range(2))
    loss(once).backward()
    for _ in range(2):
        loss(twice).backward()
    torch.testing.assert_close(2 * gradient(once), gradient(twice))


@pytest.mark.parametrize("num_images", [4, 16])
def test_memory_does_not_grow_with_the_number_of_steps(num_images: int) -> None:
    """With few images parameters outweigh activations: their gradients must not be there twice."""

    def peak(memory_flat: bool, num_steps: int) -> int:
        flow = built(memory_flat, name="glow", num_steps=num_steps, image_shape=(2, 32, 32), hidden_channels=16)
        for parameter in flow.parameters():
            parameter.grad = torch.zeros_like(parameter)
        images = torch.randint(0, 256, (num_images, 2, 32, 32), dtype=torch.uint8)
        noise = torch.rand(images.shape)
        return peak_bytes(lambda: flow.log_prob(images, None, noise).mean().backward(), torch.device("cpu"))

    assert peak(True, 32) <= 1.1 * peak(True, 8)
    assert peak(False, 32) > 3 * peak(False, 8)


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


@pytest.mark.parametrize("name", ["glow", "realnvp"])
def test_a_layer_without_exact_inverse_is_refused_by_name(name: str) -> None:
    complaint = r"multiscale\.levels\.0\.bijections\.\d+\.elementwise \(MixtureLogistic\) has no exact one"
    with pytest.raises(ValueError, match=complaint):
        flows.build(name, image_shape=(1, 8, 8), num_levels=2, coupling="mixture", memory_flat=True)


def test_a_flow_whose_networks_are_all_in_its_prior_has_nothing_to_rebuild() -> None:
    sizes = {"num_blocks": 1, "num_layers": 1, "width": 4, "num_heads": 1, "preprocess": "gaussianize"}
    with pytest.raises(ValueError, match="nothing to rebuild in TarFlow: leave it out"):
        flows.build("tarflow", image_shape=(1, 8, 8), memory_flat=True, **sizes)


def test_it_is_no_part_of_what_a_checkpoint_remembers() -> None:
    assert "memory_flat" not in built(True, name="glow").spec


class Blurred(Bijection):
    """Rebuilds its input but for a tenth."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 0.1, x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z.clone()


def test_drift_is_measured_and_the_layer_behind_it_is_named() -> None:
    flow = built(True, name="glow", num_steps=2)
    loss(flow).backward()
    drift = largest_drift(flow)
    assert drift is not None and 0 < drift < 1e-4
    chain = flow.multiscale.levels[1]
    assert isinstance(chain, Chain)
    chain.bijections.insert(3, Blurred())  # type: ignore[attr-defined]
    loss(flow).backward()
    drift = largest_drift(flow)
    assert drift is not None and drift > 0.01
    name, error = least_exact(flow, torch.zeros(2, 2, 8, 8, dtype=torch.uint8))
    assert name == "multiscale.levels.1.bijections.3" and error == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("preprocess", PREPROCESSES)
@pytest.mark.parametrize("spec", [{"name": "glow", "num_steps": 2}, {"name": "realnvp", "num_blocks": 1}], ids=str)
def test_drift_is_measured_whatever_the_first_layers_are(spec: dict[str, object], preprocess: str) -> None:
    flow = built(True, **spec, preprocess=preprocess)
    level = flow.multiscale.levels[0]
    assert isinstance(level, Chain)
    level.bijections.insert(5, Blurred())  # type: ignore[attr-defined]
    loss(flow).backward()
    assert all(chain.drift is not None for chain in flow.multiscale.levels)
    assert level.drift is not None and level.drift > 0.01


@pytest.mark.usefixtures("double")
def test_drift_is_measured_and_gradients_hold_where_the_first_layers_are_frozen() -> None:
    plain, flat = built(False, name="glow", num_steps=2), built(True, name="glow", num_steps=2)
    for flow in (plain, flat):
        for layer in list(flow.multiscale.levels[0])[:3]:
            layer.requires_grad_(False)
    assert relative_difference(plain, flat) < 1e-9
    assert flat.multiscale.levels[0].drift is not None


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["model.num_classes=10", "model.condition=couplings"],
        ["data.condition={_target_: data.Downsample, factor: 4}", "model.condition_shape=[1,2,2]"],
    ],
    ids=["nothing", "labels", "image"],
)
def test_drift_is_logged_and_a_warning_says_where_it_comes_from(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flows.training.lit.DRIFT_LIMIT", 0.0)
    with caplog.at_level(logging.WARNING):
        run_training(tmp_path, "model.memory_flat=true", "trainer.max_steps=3", *given)
    assert len(read_metrics(tmp_path, "train/reconstruction_drift")) == 3
    (message,) = [record.getMessage() for record in caplog.records if "rebuilt" in record.getMessage()]
    assert "after step 1 inputs are rebuilt with an error of" in message
    assert "input worst is multiscale.levels." in message


@pytest.mark.parametrize("spec", [{"num_steps": 2}, {"num_steps": 2, "permutation": "random"}], ids=str)
def test_parameters_that_changed_before_the_way_back_are_refused(spec: dict[str, object]) -> None:
    flow = built(True, name="glow", **spec)
    value = loss(flow)
    with torch.no_grad():
        next(iter(flow.multiscale.levels[-1].parameters())).add_(1)
    with pytest.raises(ValueError, match="the parameters have changed since the forward pass"):
        value.backward()


def test_parameters_of_a_functional_call_are_refused_outside_of_it() -> None:
    flow = built(True, name="glow", num_steps=2)
    others = {name: parameter.detach().clone().requires_grad_() for name, parameter in flow.named_parameters()}
    images = torch.randint(0, 256, (3, 2, 8, 8), dtype=torch.uint8)
    value = torch.func.functional_call(flow, others, (images,)).sum()
    with pytest.raises(ValueError, match=r"within torch.func.functional_call"):
        value.backward()
