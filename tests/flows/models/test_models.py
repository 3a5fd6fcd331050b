"""Whole models: invertible, with the true log-determinant, for every choice, channel count and shape."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.preprocess import PREPROCESSES
from flows.bijections.scale import SCALES
from flows.image_flow import ImageFlow
from flows.models import registry
from flows.models.glow import PERMUTATIONS
from flows.models.top import TOP_PRIORS
from flows.networks.conditioner import ACTIVATIONS, HIDDEN_CONVS, ActNormConv2d
from tests.support.perturb import perturb

GLOW: dict[str, Any] = {"name": "glow", "num_levels": 2, "num_steps": 1, "hidden_channels": 4}
REALNVP: dict[str, Any] = {"name": "realnvp", "num_levels": 2, "hidden_channels": 4, "num_blocks": 1}
TARFLOW: dict[str, Any] = {"name": "tarflow", "num_blocks": 2, "num_layers": 1, "width": 4, "num_heads": 1}

SPECS: dict[str, dict[str, Any]] = {
    "glow": GLOW,
    **{f"glow-{value}": {**GLOW, "permutation": value} for value in PERMUTATIONS},
    **{f"glow-{value}": {**GLOW, "coupling": value} for value in COUPLINGS},
    **{f"glow-{value}": {**GLOW, "scale": value} for value in SCALES},
    **{f"glow-{value}": {**GLOW, "conditioner": value} for value in HIDDEN_CONVS},
    **{f"glow-{value}": {**GLOW, "activation": value} for value in ACTIVATIONS},
    **{f"glow-{value}": {**GLOW, "preprocess": value} for value in PREPROCESSES},
    "glow-variational": {**GLOW, "dequantize": "variational"},
    "glow-limited": {**GLOW, "input_limit": 0.5},
    **{f"glow-{value}": {**GLOW, "top_prior": value} for value in TOP_PRIORS},
    **{f"glow-conditional-{kind}": {**GLOW, "num_classes": 3, "top_prior": kind} for kind in TOP_PRIORS},
    "glow-one-level": {**GLOW, "num_levels": 1},
    "realnvp": REALNVP,
    **{f"realnvp-{value}": {**REALNVP, "preprocess": value} for value in PREPROCESSES},
    **{f"realnvp-{value}": {**REALNVP, "activation": value} for value in ACTIVATIONS},
    "realnvp-variational": {**REALNVP, "dequantize": "variational"},
    "realnvp-conditional": {**REALNVP, "num_classes": 3},
    "realnvp-autoregressive": {**REALNVP, "top_prior": "autoregressive"},
    "tarflow": TARFLOW,
    "tarflow-mixed-conditional": {**TARFLOW, "mix": True, "coupling": "mixture", "num_classes": 3},
    "realnvp-three-levels": {**REALNVP, "num_levels": 3, "hidden_channels": 2},
}


def random_images(shape: tuple[int, int, int], count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8)


def make(spec: dict[str, Any], shape: tuple[int, int, int]) -> tuple[ImageFlow, Tensor, Tensor | None]:
    """Build a perturbed flow with images and labels for it."""
    flow = flows.build(image_shape=shape, **spec)
    images = random_images(shape)
    label = None if flow.num_classes is None else torch.tensor([0, 2, 1])
    return perturb(flow, 0.1), images, label


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.usefixtures("double")
class TestEveryChoice:
    def test_inverse_and_log_det(self, spec: dict[str, Any]) -> None:
        side = 8 if spec.get("top_prior") == "autoregressive" else 4  # so that there are several tokens
        flow, _, label = make(spec, (1, side, side))
        x = torch.rand(3, 1, side, side) - 0.5

        def flat_latents(image: Tensor, label: Tensor | None) -> Tensor:
            zs, _ = flow.multiscale(image[None], label)
            return torch.cat([z.flatten() for z in zs])

        zs, log_det = flow.multiscale(x, label)
        assert [tuple(z.shape[1:]) for z in zs] == flow.latent_shapes
        torch.testing.assert_close(flow.multiscale.inverse(zs, label), x, rtol=0, atol=1e-10)
        for k, image in enumerate(x):
            one = None if label is None else label[k : k + 1]
            jacobian = torch.autograd.functional.jacobian(lambda image, one=one: flat_latents(image, one), image)
            expected = torch.linalg.slogdet(jacobian.reshape(side**2, side**2)).logabsdet
            torch.testing.assert_close(log_det[k], expected, rtol=0, atol=1e-9)

    def test_gradients_reach_every_parameter(self, spec: dict[str, Any]) -> None:
        flow, images, label = make(spec, (1, 8, 8))
        flow.log_prob(images, label, torch.full(images.shape, 0.5)).sum().backward()
        for name, parameter in flow.named_parameters():
            assert parameter.grad is not None and parameter.grad.count_nonzero() > 0, name

    def test_spec_and_state_dict_rebuild_the_flow(self, spec: dict[str, Any]) -> None:
        flow, images, label = make(spec, (1, 4, 4))
        copy = flows.build(**flow.spec)
        copy.load_state_dict(flow.state_dict())
        noise = torch.rand(images.shape)
        assert torch.equal(flow.log_prob(images, label, noise), copy.log_prob(images, label, noise))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (16, 8, 12), (2, 16, 4), (5, 4, 4)])
@pytest.mark.parametrize(
    "spec",
    [GLOW, {**GLOW, "preprocess": "gaussianize"}, {**GLOW, "dequantize": "variational"}, REALNVP],
    ids=["glow", "glow-gaussianize", "glow-variational", "realnvp"],
)
def test_any_channels_and_sizes_decode_what_they_encode(spec: dict[str, Any], shape: tuple[int, int, int]) -> None:
    flow, images, label = make(spec, shape)
    flows.initialize(flow, images)
    assert torch.equal(flow.decode(flow.encode(images, label), label), images)
    assert flow.sample([0, 1]).shape == (2, *shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [{**GLOW, "num_levels": 6, "num_steps": 2}, {**REALNVP, "num_levels": 5, "hidden_channels": 2}],
    ids=["glow", "realnvp"],
)
def test_large_images(spec: dict[str, Any]) -> None:
    flow = flows.build(image_shape=(3, 256, 256), **spec)
    images = random_images((3, 256, 256), 2)
    flows.initialize(flow, images)
    perturb(flow.multiscale, 0.02)
    assert torch.equal(flow.decode(flow.encode(images)), images)


def test_limited_inputs_keep_an_image_unlike_all_others_in_range() -> None:
    torch.manual_seed(0)
    x = 100 * torch.randn(8, 1, 8, 8)
    sizes = []
    for limit in (None, 6.0):
        torch.manual_seed(1)
        spec = {**GLOW, "num_steps": 12, "input_limit": limit}
        flow = perturb(flows.build(image_shape=(1, 8, 8), **spec))
        sizes.append(max(z.abs().max().item() for z in flow.multiscale(x)[0]))
    unlimited, limited = sizes
    assert not math.isfinite(unlimited) and limited < 1e9
    for value in (0, -1.0):
        with pytest.raises(ValueError, match="input_limit"):
            flows.build(image_shape=(1, 8, 8), **{**GLOW, "input_limit": value})


@pytest.mark.parametrize("spec", [GLOW, REALNVP], ids=["glow", "realnvp"])
@pytest.mark.parametrize(("activation", "other"), [("gelu", nn.ReLU), ("relu", nn.GELU)])
def test_the_activation_is_that_of_all_networks(spec: dict[str, Any], activation: str, other: type[nn.Module]) -> None:
    shape = (1, 8, 8)
    more = {"activation": activation, "dequantize": "variational", "condition_shape": shape}
    flow = flows.build(**spec, **more, image_shape=shape)
    assert sum(isinstance(module, type(ACTIVATIONS[activation]())) for module in flow.context_net.modules()) == 3
    assert not any(isinstance(module, other) for module in flow.modules())


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_low_bits_are_dropped_and_the_rest_come_back(num_bits: int) -> None:
    flow = flows.build(image_shape=(1, 4, 4), num_bits=num_bits, **GLOW)
    images = random_images((1, 4, 4))
    step = 256 // 2**num_bits
    assert torch.equal(flow.decode(flow.encode(images)), images // step * step)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("dequantize", "num_networks"), [("uniform", 2 * 3), ("variational", 2 * 3 + 4)])
def test_initialisation_standardises_every_normalised_activation(dequantize: str, num_networks: int) -> None:
    flow = flows.build(image_shape=(1, 8, 8), **{**GLOW, "num_steps": 3, "dequantize": dequantize})
    images = random_images((1, 8, 8), 64)
    noise = torch.rand(images.shape)
    flows.initialize(flow, images, None, noise)
    outputs: list[Tensor] = []
    for module in flow.modules():
        if isinstance(module, ActNormConv2d):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    flow.log_prob(images, None, noise)
    assert len(outputs) == 2 * num_networks
    for output in outputs:
        variance, mean = torch.var_mean(output, (0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        torch.testing.assert_close(variance, torch.ones_like(variance))


@pytest.mark.usefixtures("double")
def test_with_whitening_every_coupling_starts_on_white_channels() -> None:
    flow = flows.build(**{**GLOW, "num_steps": 3}, image_shape=(3, 8, 8), permutation="conv1x1_white")
    images = random_images((3, 8, 8), 60)
    noise = torch.rand(images.shape)
    flows.initialize(flow, images, None, noise)
    seen: list[Tensor] = []
    for part in flow.modules():
        if isinstance(part, Coupling):
            part.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0].detach()))
    flow.log_prob(images, None, noise)
    assert len(seen) == 6
    for x in seen:
        rows = x.permute(0, 2, 3, 1).flatten(0, 2)
        torch.testing.assert_close(rows.t().cov(correction=0), torch.eye(x.shape[1]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_bits": 0}, "num_bits is a whole number between 1 and 8, got 0"),
        ({"num_bits": 9}, "num_bits is a whole number between 1 and 8, got 9"),
        (
            {"num_levels": 4},
            "divisible by 16, got 28x28: choose a smaller num_levels, or images of 16 or 32 pixels in place of 28",
        ),
        ({"num_levels": 0}, "num_levels is a whole number of at least 1, got 0"),
        (
            {"scale": "tanh3"},
            "scale is one of sigmoid, tanh4, learned_tanh; got 'tanh3' \\(did you mean 'tanh",
        ),
        ({"coupling": "afine"}, "did you mean 'affine'"),
        ({"top_prior": "learned"}, "top_prior is one of position, channel, standard"),
        ({"name": "glows"}, "model is one of glow, realnvp.*; got 'glows' \\(did you mean 'glow'\\?\\)"),
        ({"image_shape": (28, 28)}, "image_shape is three positive whole numbers"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flows.build(**{"image_shape": (1, 28, 28), **GLOW, **change})


def test_wrong_images_are_rejected_with_expected_and_got() -> None:
    flow = flows.build(image_shape=(1, 4, 4), **GLOW)
    with pytest.raises(ValueError, match=r"uint8 images \(B, 1, 4, 4\), got torch.uint8 \(2, 3, 4, 4\)"):
        flow.log_prob(random_images((3, 4, 4), 2))
    with pytest.raises(ValueError, match=r"got torch.float32"):
        flow.log_prob(torch.rand(2, 1, 4, 4))


def test_a_conditional_flow_wants_a_label_for_each_image() -> None:
    flow = flows.build(image_shape=(1, 4, 4), **{**GLOW, "num_classes": 3})
    images = random_images((1, 4, 4))
    for call in (flow.encode, lambda images: flow.log_prob(images, torch.zeros(2, dtype=torch.int64))):
        with pytest.raises(ValueError, match="needs a label for each image"):
            call(images)


def test_labels_change_only_what_they_should() -> None:
    flow, images, _ = make({**GLOW, "num_classes": 3}, (1, 4, 4))
    zero, one = (flow.encode(images, torch.full((3,), k)) for k in (0, 1))
    assert torch.equal(zero[0], one[0])
    assert not torch.allclose(zero[1], one[1])


def test_a_model_of_ones_own_is_registered_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))

    def small(*, image_shape: list[int]) -> flows.ImageFlow:
        return flows.Glow(image_shape=image_shape, num_levels=1, num_steps=1, hidden_channels=4)

    flows.register("small", small)
    flows.register("small", small)
    flow = flows.build("small", image_shape=(1, 4, 4))
    flows.save(flow, tmp_path / "small.safetensors")
    assert flows.load(tmp_path / "small.safetensors").spec == {"name": "small", "image_shape": [1, 4, 4]}
    with pytest.raises(ValueError, match="a model 'small' already"):
        flows.register("small", flows.Glow)
    with pytest.raises(ValueError, match=r"memory_flat; got 'memory_efficient' \(did you mean 'memory_flat'\?\)"):
        flows.build("glow", image_shape=(1, 4, 4), memory_efficient=True)
