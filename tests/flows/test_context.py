"""Conditional flows: labels in every coupling, images as condition, and both, plainly and memory-flat."""

from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from flows.bijections.chain import Chain
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import Affine
from flows.bijections.mask import ChannelMask
from flows.bijections.scale import BoundedScale
from flows.context import features_at, labels_for
from flows.memory.drift import least_exact
from flows.multiscale import Multiscale
from flows.networks.conditioner import ConvNet, plain_conv
from flows.prior import Split, TopPrior
from tests.flows.memory.test_memory_flat import Blurred
from tests.support.perturb import perturb

SHAPE, SMALL = (1, 8, 8), (1, 2, 2)
MODELS: dict[str, dict[str, Any]] = {
    "glow": {"name": "glow", "num_levels": 2, "num_steps": 2, "hidden_channels": 8},
    "realnvp": {"name": "realnvp", "num_levels": 2, "hidden_channels": 4, "num_blocks": 1},
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "labels": {"num_classes": 3, "condition": "couplings"},
    "image": {"condition_shape": SMALL},
    "both": {"num_classes": 3, "condition": "couplings", "condition_shape": SMALL},
    "prior and image": {"num_classes": 3, "condition_shape": SMALL},
}
IMAGES = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NOISE = torch.rand(IMAGES.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABEL = torch.tensor([0, 2, 1, 2])
CONDITION = torch.randint(0, 256, (4, *SMALL), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))

every_model = pytest.mark.parametrize("model", MODELS)
every_condition = pytest.mark.parametrize("kind", CONDITIONS)


def built(model: str, kind: str, **settings: Any) -> flows.ImageFlow:
    torch.manual_seed(0)
    spec = {**MODELS[model], **CONDITIONS[kind], **settings}
    return perturb(flows.build(image_shape=SHAPE, context_channels=4, **spec), 0.1).double()


def given(kind: str) -> dict[str, Tensor]:
    settings = CONDITIONS[kind]
    label = {"label": LABEL} if "num_classes" in settings else {}
    return {**label, **({"condition": CONDITION} if "condition_shape" in settings else {})}


@every_model
@every_condition
def test_decoding_undoes_encoding(model: str, kind: str) -> None:
    flow = built(model, kind)
    zs = flow.encode(IMAGES, **given(kind))
    assert torch.equal(flow.decode(zs, **given(kind)), IMAGES)
    assert flow.sample(range(4), 0.5, **given(kind)).shape == IMAGES.shape


@every_model
@every_condition
def test_log_det_is_that_of_autograds_jacobian(model: str, kind: str) -> None:
    flow = built(model, kind)
    one = {name: value[:1] for name, value in given(kind).items()}
    context = flow.context(**one)
    x = flow.dequantize.place(IMAGES[:1], NOISE[:1])

    def latents(x: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in flow.multiscale(x, context)[0]])

    with flows.plain_autograd():
        jacobian = torch.autograd.functional.jacobian(latents, x).reshape(64, 64)
    torch.testing.assert_close(flow.multiscale(x, context)[1][0], torch.linalg.slogdet(jacobian).logabsdet)


def gradients(flow: flows.ImageFlow, kind: str) -> dict[str, Tensor]:
    flow.zero_grad()
    (flow.log_prob(IMAGES, noise=NOISE, **given(kind)) * torch.arange(1, 5)).sum().backward()
    return {name: parameter.grad for name, parameter in flow.named_parameters() if parameter.grad is not None}


@every_model
@every_condition
@pytest.mark.parametrize("memory_flat", [False, True])
def test_gradients_are_those_of_plain_autograd(model: str, kind: str, memory_flat: bool) -> None:
    flow = built(model, kind, memory_flat=memory_flat)
    by_hand = gradients(flow, kind)
    with flows.plain_autograd():
        plain = gradients(flow, kind)
    assert by_hand.keys() == plain.keys()
    of_network = [name for name in plain if name.startswith("context_net")]
    assert of_network and all(plain[name].abs().max() > 0 for name in of_network)
    for name, gradient in plain.items():
        torch.testing.assert_close(by_hand[name], gradient, rtol=1e-7, atol=1e-9, msg=name)


@every_model
@every_condition
def test_what_is_given_matters_to_its_image_alone(model: str, kind: str) -> None:
    flow = built(model, kind)
    before = flow.log_prob(IMAGES, noise=NOISE, **given(kind))
    for name, value in given(kind).items():
        other = value.clone()
        other[0] = (value[0] + 1) % 3
        changed = flow.log_prob(IMAGES, noise=NOISE, **{**given(kind), name: other}) != before
        assert changed.tolist() == [True, False, False, False]


@every_model
def test_a_flow_starts_from_one_that_is_given_nothing(model: str) -> None:
    """All that reads the condition starts at zero, but for hidden layers: the prior of a fresh flow ignores it."""
    flow = flows.build(image_shape=SHAPE, **MODELS[model], condition_shape=SMALL, top_prior="position")
    assert flow.multiscale.top.of_features is not None
    x = torch.randn(4, *flow.latent_shapes[-1])
    context = flow.context(condition=CONDITION)
    assert torch.equal(flow.multiscale.top(x, context)[0], x)


@every_model
def test_initialisation_and_reduced_precision_take_a_condition(model: str) -> None:
    flow = flows.build(image_shape=SHAPE, **MODELS[model], condition_shape=SMALL)
    start = {key: value.clone() for key, value in flow.state_dict().items()}
    flows.initialize(flow, IMAGES, None, NOISE.float(), CONDITION)
    assert any(not torch.equal(flow.state_dict()[key], value) for key, value in start.items())
    by_name = flows.build(image_shape=SHAPE, **MODELS[model], condition_shape=SMALL)
    by_name.load_state_dict(start)
    flows.initialize(by_name, IMAGES, noise=NOISE.float(), condition=CONDITION)
    assert all(torch.equal(by_name.state_dict()[key], value) for key, value in flow.state_dict().items())
    perturb(flow, 0.03)
    exact = flow.log_prob(IMAGES, noise=NOISE.float(), condition=CONDITION)
    with torch.autocast("cpu", torch.bfloat16):
        low = flow.log_prob(IMAGES, noise=NOISE.float(), condition=CONDITION)
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0)


@every_model
@every_condition
def test_the_layer_that_rebuilds_its_input_worst_is_named(model: str, kind: str) -> None:
    flow = built(model, kind, memory_flat=True)
    flow.multiscale.levels[1].bijections.insert(2, Blurred())
    label, condition = given(kind).get("label"), given(kind).get("condition")
    name, error = least_exact(flow, IMAGES, label, NOISE, condition)
    assert name == "multiscale.levels.1.bijections.2" and error == pytest.approx(0.1)


@every_model
@pytest.mark.parametrize("memory_flat", [False, True])
def test_gradients_at_reduced_precision_are_near_the_exact_ones(model: str, memory_flat: bool) -> None:
    flow = built(model, "both", memory_flat=memory_flat).float()
    exact = gradients(flow, "both")
    with torch.autocast("cpu", torch.bfloat16):
        low = gradients(flow, "both")
    assert low.keys() == exact.keys()
    of_context_net = [name for name in exact if name.startswith("context_net")]
    one, other = (torch.cat([found[name].flatten() for name in of_context_net]) for found in (exact, low))
    assert 0 < (one - other).norm() < 0.05 * one.norm()


@pytest.mark.parametrize("memory_flat", [False, True])
def test_a_bijection_of_one_argument_works_in_a_conditional_chain(memory_flat: bool) -> None:
    class Double(flows.Bijection):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return 2 * x, x.new_full((len(x),), 4 * 0.6931471805599453)

        def inverse(self, z: Tensor) -> Tensor:
            return z / 2

    def network(in_channels: int, out_channels: int) -> ConvNet:
        return ConvNet(in_channels, out_channels, 8, plain_conv)

    coupling = perturb(Coupling(4, ChannelMask(4), Affine(BoundedScale(2)), network, context_channels=3), 0.2)
    chain = Chain(Double(), Chain(coupling, Double()), coupling).double()
    chain.memory_flat = memory_flat
    x = torch.randn(2, 4, 1, 1, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    z, log_det = chain(x, context)
    torch.testing.assert_close(chain.inverse(z, context), x)
    by_hand = torch.autograd.grad(z.sin().sum() + log_det.sum(), [x, context, *chain.parameters()])
    with flows.plain_autograd():
        z, log_det = chain(x, context)
    plain = torch.autograd.grad(z.sin().sum() + log_det.sum(), [x, context, *chain.parameters()])
    for one, other in zip(by_hand, plain, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match=r"reads features \(2, 3, 1, 1\).*got none"):
        chain(x)


def test_a_part_takes_the_features_of_its_own_size() -> None:
    alike, fine, coarse = torch.randn(2, 3, 1, 1), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    context = (alike, LABEL[:2], fine, coarse)
    assert torch.equal(features_at(context, torch.zeros(2, 5, 4, 4), 3), fine)
    assert torch.equal(features_at(context, torch.zeros(2, 5, 2, 2), 3), coarse)
    assert torch.equal(features_at(context, torch.zeros(2, 5, 8, 8), 3), alike.expand(2, 3, 8, 8))
    pair = torch.zeros(2, 5, 4, 4)
    assert labels_for(context, pair) is context[1] and torch.equal(labels_for(LABEL[:2], pair), LABEL[:2])
    with pytest.raises(ValueError, match=r"a label for each image, \(2,\), got none"):
        labels_for(alike, pair)
    with pytest.raises(ValueError, match=r"reads features \(2, 4, 4, 4\)"):
        features_at(context, torch.zeros(2, 5, 4, 4), 4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"condition": "couplings"}, "give num_classes"),
        ({"condition": "coupling"}, "did you mean 'couplings'"),
        ({"condition_shape": [1, 2]}, r"three positive whole numbers"),
        ({"context_channels": 0}, "context_channels"),
    ],
    ids=str,
)
@every_model
def test_wrong_settings_are_refused(model: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        flows.build(image_shape=SHAPE, **MODELS[model], **settings)


def test_a_condition_that_does_not_fit_is_refused() -> None:
    flow, plain = built("glow", "image"), flows.build(image_shape=SHAPE, **MODELS["glow"])
    for wrong in (None, CONDITION[:2], CONDITION.float(), torch.zeros(4, 1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"conditioned on images, uint8 \(4, 1, 2, 2\)"):
            flow.log_prob(IMAGES, condition=wrong)
        with pytest.raises(ValueError, match="conditioned on images"):
            flow.sample(range(4), condition=wrong)
    with pytest.raises(ValueError, match="leave the condition out"):
        plain.log_prob(IMAGES, condition=CONDITION)


def planar_flow(num_dims: int = 2, context_channels: int = 0) -> Multiscale:
    """A flow of vectors, as images of one pixel."""

    def network(in_channels: int, out_channels: int) -> ConvNet:
        return ConvNet(in_channels, out_channels, 16, plain_conv)

    torch.manual_seed(0)
    couplings = [
        Coupling(num_dims, ChannelMask(num_dims, swap=bool(k % 2)), Affine(BoundedScale(1)), network, context_channels)
        for k in range(4)
    ]
    return perturb(Multiscale([Chain(*couplings)], [], TopPrior((num_dims, 1, 1), "position")), 0.15).double()


@torch.no_grad()
@pytest.mark.parametrize("context", [None, torch.tensor([[0.3, -1.0]]).double().view(1, 2, 1, 1)], ids=["none", "some"])
def test_a_density_of_vectors_integrates_to_one(context: Tensor | None) -> None:
    flow = planar_flow(context_channels=0 if context is None else 2)
    side = torch.linspace(-10, 10, 501, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[:, :, None, None]
    given = None if context is None else context.expand(len(grid), -1, -1, -1)
    mass = flow.log_prob(grid, given).exp().sum() * (side[1] - side[0]).square()
    assert abs(mass - 1) < 1e-3


def test_a_density_of_floats_has_gradients_and_samples() -> None:
    flow = planar_flow()
    x = torch.randn(5, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    with flows.plain_autograd():
        assert torch.autograd.gradcheck(flow.log_prob, (x,))
    drawn = flow.sample(range(7), temperature=0.0)
    assert torch.equal(drawn[0], drawn[6]) and drawn.dtype == torch.float64
    (eps,), _ = flow(flow.sample([4, 3]))
    expected = [torch.randn(2, generator=torch.Generator().manual_seed(seed)).double() for seed in (4, 3)]
    torch.testing.assert_close(eps, torch.stack(expected).view(2, 2, 1, 1))


def test_a_split_that_could_not_read_its_features_is_refused() -> None:
    with pytest.raises(ValueError, match="without a conditioner reads no features"):
        Split(4, context_channels=3)


def test_latent_shapes_are_asked_for_where_something_is_split_off() -> None:
    flow = flows.build(image_shape=SHAPE, **MODELS["glow"])
    parts = list(flow.multiscale.levels), list(flow.multiscale.splits), flow.multiscale.top
    with pytest.raises(ValueError, match="a latent shape"):
        Multiscale(*parts)
    again = Multiscale(*parts, latent_shapes=flow.latent_shapes)
    x = torch.rand(4, *SHAPE) - 0.5
    assert torch.equal(again.log_prob(x), flow.multiscale.log_prob(x))
    assert again.sample(range(3)).shape == (3, *SHAPE)
