"""A sampler draws the images of its flow."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from data import Digits
from flows import Sampler
from flows.bijection import Bijection
from flows.context import Context
from flows.networks.conditioner import ActNormConv2d
from flows.networks.fused_convs import ScaledConv2d
from tests.flows.models.test_models import GLOW, SPECS, TARFLOW, make
from tests.support.perturb import perturb

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_it_draws_and_decodes_what_the_flow_does(spec: dict[str, Any]) -> None:
    flow, images, label = make(spec, SHAPE)
    sampler = Sampler(flow)
    assert torch.equal(sampler.sample(range(3), 0.7, label), flow.sample(range(3), 0.7, label))
    with torch.no_grad():
        zs = flow.encode(images, label)
        assert torch.equal(sampler.decode(zs, label), flow.decode(zs, label))


@pytest.mark.parametrize("top_prior", ["position", "autoregressive"])
def test_it_takes_all_that_the_flow_takes(top_prior: str) -> None:
    given = {"num_classes": 3, "label_dropout": 0.1, "condition_shape": (1, 2, 2)}
    flow, images, label = make({**GLOW, **given, "top_prior": top_prior}, SHAPE)
    arguments = (range(3), 0.7, label, images[:, :, ::4, ::4], 1.5, [0.5, 1.0])
    assert torch.equal(Sampler(flow).sample(*arguments), flow.sample(*arguments))


@pytest.mark.parametrize("model", [{**GLOW, "top_prior": "autoregressive"}, TARFLOW], ids=["glow", "tarflow"])
def test_a_thousand_images_come_back_by_both_decoders(model: dict[str, Any]) -> None:
    images = Digits().load()[0][list(range(1000))].images
    flow = flows.build(image_shape=SHAPE, **model)
    flows.initialize(flow, images)
    perturb(flow.multiscale, 0.05)
    with torch.no_grad():
        zs = flow.encode(images)
    assert torch.equal(flow.decode(zs), images)
    for parallel in (False, True):
        assert torch.equal(Sampler(flow, parallel).decode(zs), images)


def test_its_images_are_tensors_like_any_other() -> None:
    flow, images, _ = make(GLOW, SHAPE)
    sampler = Sampler(flow)
    for drawn in (sampler.sample(range(3)), sampler.decode(flow.encode(images))):
        weight = torch.ones(1, requires_grad=True)
        (weight * drawn.add_(1)).sum().backward()
        assert weight.grad is not None and not drawn.is_inference()


def test_what_depends_on_the_weights_alone_is_computed_once() -> None:
    flow, *_ = make({**GLOW, "preprocess": "gaussianize"}, SHAPE)
    sampler = Sampler(flow)
    before = sampler.sample(range(3))
    perturb(flow, 0.5)
    assert torch.equal(sampler.sample(range(3)), before)
    kinds = {type(part).__name__ for part in sampler.flow.modules()}
    assert {"KnownInverse", "KnownHistogram", "Conv2d"} <= kinds
    assert not kinds & {"ActNormConv2d", "ZeroConv2d", "InvertibleConv1x1", "Gaussianize"}
    assert all(parameter.requires_grad for parameter in flow.parameters())


def test_weight_normalised_kernels_are_computed_once() -> None:
    flow, *_ = make(SPECS["realnvp"], SHAPE)
    sampler = Sampler(flow)
    assert "WeightNormConv2d" not in {type(part).__name__ for part in sampler.flow.modules()}
    assert torch.equal(sampler.sample(range(3)), flow.sample(range(3)))


def test_parts_with_hooks_or_a_forward_of_their_own_stay_as_they_are() -> None:
    class Doubled(ActNormConv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    flow, *_ = make(GLOW, SHAPE)
    network: Any = next(part for part in flow.modules() if isinstance(part, nn.Sequential) and len(part) > 3)
    network[0] = perturb(Doubled(network[0].in_channels, 4, 3), 0.3)
    handle = network[2].register_forward_hook(lambda module, inputs, output: 3 * output)
    expected = flow.sample(range(3))
    assert torch.equal(Sampler(flow).sample(range(3)), expected)
    handle.remove()
    assert not torch.equal(flow.sample(range(3)), expected)


def test_settings_of_a_convolution_are_kept() -> None:
    flow, *_ = make(GLOW, SHAPE)
    for part in flow.modules():
        if isinstance(part, ScaledConv2d) and part.kernel_size == (3, 3):
            part.padding_mode, part._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]
    assert torch.equal(Sampler(flow).sample(range(3)), flow.sample(range(3)))


class Searched(Bijection):
    """z = x + sin(x) / 2, whose inverse is found by Newton's method with the slope of autograd."""

    channels = 1

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        return x + x.sin() / 2, (1 + x.cos() / 2).log().sum((1, 2, 3))

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        x = z
        for _ in range(20):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                value = self(leaf)[0]
                (slope,) = torch.autograd.grad(value.sum(), leaf)
            x = x - (value.detach() - z) / slope
        return x


def test_an_inverse_may_use_autograd() -> None:
    flow, *_ = make(GLOW, SHAPE)
    flow.multiscale.levels[0].bijections.insert(0, Searched())
    assert torch.equal(Sampler(flow).sample(range(3)), flow.sample(range(3)))


def test_it_is_copied_and_pickled_with_its_flow() -> None:
    flow, *_ = make(GLOW, SHAPE)
    sampler = Sampler(flow)
    expected = sampler.sample(range(3))
    for other in (deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert torch.equal(other.sample(range(3)), expected)
        with torch.no_grad():
            for parameter in other.flow.parameters():
                parameter.zero_()
        assert not torch.equal(other.sample(range(3)), expected)


def test_it_draws_no_random_numbers_of_its_own() -> None:
    flow, *_ = make(GLOW, SHAPE)
    before = torch.get_rng_state()
    Sampler(flow).sample(range(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_flows_without_autoregressive_maps_have_nothing_to_map_in_parallel() -> None:
    with pytest.raises(ValueError, match="parallel is for autoregressive maps, and this flow has none"):
        Sampler(flows.build(image_shape=SHAPE, **GLOW), parallel=True)


def test_wrong_use_is_told_as_by_the_flow() -> None:
    flow = flows.build(image_shape=SHAPE, **GLOW)
    with pytest.raises(ValueError, match="leave label out"):
        Sampler(flow).sample(range(3), label=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(NotImplementedError, match="from latents to images only"):
        Sampler(flow).flow.encode(torch.zeros(1, *SHAPE, dtype=torch.uint8))
