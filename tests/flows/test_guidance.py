"""Guided samples have the tilted density, and the density without labels is that of all classes together."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.elementwise import COUPLINGS, Affine
from flows.bijections.scale import BoundedScale
from flows.guidance import Guidance, guided
from flows.prior import TopPrior
from tests.support.perturb import perturb

pytestmark = pytest.mark.usefixtures("double")

CLASSES = 3
SPEC: dict[str, Any] = {"num_levels": 2, "image_shape": (1, 8, 8), "num_classes": CLASSES, "label_dropout": 0.1}
FLOWS: dict[str, dict[str, Any]] = {
    "position": {"name": "glow", "num_steps": 1, "hidden_channels": 4, "top_prior": "position"},
    "autoregressive": {"name": "glow", "num_steps": 1, "hidden_channels": 4, "top_prior": "autoregressive"},
    "couplings": {"name": "glow", "num_steps": 1, "hidden_channels": 4, "condition": "couplings"},
    "realnvp": {"name": "realnvp", "hidden_channels": 4, "num_blocks": 1, "top_prior": "autoregressive"},
}
IMAGES = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 1, 0])
GRID = torch.linspace(-60, 60, 120_001, dtype=torch.double)


def made(kind: str, **changes: Any) -> flows.ImageFlow:
    return perturb(flows.build(**{**FLOWS[kind], **SPEC, **changes}), 0.2)


def tilted(log_p: Tensor, log_q: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of p^(1 + weight) / q^weight by quadrature over `GRID`."""
    mass = ((1 + weight) * log_p - weight * log_q).softmax(-1)
    mean = (mass * GRID).sum(-1)
    return mean, (mass * (GRID - mean[..., None]).square()).sum(-1).sqrt()


def gaussian(mu: Tensor, log_sigma: Tensor) -> Tensor:
    return torch.distributions.Normal(mu[..., None], log_sigma.exp()[..., None]).log_prob(GRID)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_a_guided_gaussian_is_the_tilted_density(weight: float) -> None:
    mu, other_mu = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.0, 0.5, 2.5])
    log_sigma = torch.tensor([-1.0, 0.0, 0.5])
    for wider in (0.0, 0.3, 1.0):
        h, q = (torch.stack(pair).view(1, 6, 1, 1) for pair in ((mu, log_sigma), (other_mu, log_sigma + wider)))
        mean, log_deviation = guided(h, q, weight).view(2, 3)
        expected = tilted(gaussian(mu, log_sigma), gaussian(other_mu, log_sigma + wider), weight)
        torch.testing.assert_close((mean, log_deviation.exp()), expected, rtol=1e-6, atol=1e-6)


def test_guidance_of_any_weight_is_finite() -> None:
    h, q = torch.tensor([0.3, -1.0]).view(1, 2, 1, 1), torch.tensor([0.1, -1.0]).view(1, 2, 1, 1)
    for weight in (1e8, 1e30):
        assert guided(h.float(), q.float(), weight).isfinite().all()
    flow = made("position")
    for weight in (10**400, math.inf, -1):
        with pytest.raises(ValueError, match="guidance is one finite number of at least 0"):
            flow.sample(range(1), label=LABELS[:1], guidance=weight)


def test_a_wider_gaussian_is_guided_as_by_one_of_its_own_width() -> None:
    h = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)
    narrow, as_wide = (torch.tensor([0.0, log_sigma]).view(1, 2, 1, 1) for log_sigma in (-2.0, 0.5))
    assert torch.equal(guided(h, narrow, 2.0), guided(h, as_wide, 2.0))
    assert guided(h, narrow, 2.0).flatten().tolist() == pytest.approx([3.0, 0.5])


@pytest.mark.parametrize("coupling", ["affine", "shifted_affine", "additive"])
def test_a_token_of_the_block_next_to_the_latents_has_the_tilted_density_given_those_before_it(coupling: str) -> None:
    block = perturb(
        AutoregressiveTransformer(
            (1, 2, 2),
            COUPLINGS[coupling](BoundedScale(1)),
            width=8,
            num_layers=1,
            num_heads=2,
            num_classes=CLASSES + 1,
        ),
        0.3,
    )
    label, dropped, weight = torch.tensor([1]), torch.tensor([CLASSES]), 1.5
    z = torch.randn(1, 1, 2, 2)
    x = block.inverse(z, label, Guidance(weight, dropped)).flatten()
    compared = 0
    for place in range(4):
        columns = x.repeat(len(GRID), 1)
        columns[:, place] = GRID
        columns = columns[:, None, :, None]
        of_labels = []
        for of in (label, dropped):
            with torch.no_grad():
                raw = block.steer(columns, block.known(columns, of.expand(len(GRID))))
                latents, log_derivatives = block.elementwise(columns, raw)
            log_density = log_derivatives - 0.5 * latents.square()
            of_labels.append(log_density[:, 0, place, 0])
        h, q = (density - density.logsumexp(0) for density in of_labels)
        (_, width), (_, other_width) = tilted(h, h, 0.0), tilted(q, q, 0.0)
        if width > other_width + 1e-9:  # then it is guided as by a density of its own width: another test
            continue
        compared += 1
        mean, deviation = tilted(h, q, weight)
        torch.testing.assert_close(x[place], mean + deviation * z.flatten()[place], rtol=0, atol=1e-4)
    assert compared > 0


@pytest.mark.parametrize("kind", FLOWS)
def test_guidance_changes_samples_and_a_weight_of_zero_does_not(kind: str) -> None:
    flow = made(kind)
    plain = flow.sample(range(5), label=LABELS)
    assert torch.equal(flow.sample(range(5), label=LABELS, guidance=0), plain)
    assert not torch.equal(flow.sample(range(5), label=LABELS, guidance=2.0), plain)


def test_guidance_moves_the_gaussian_at_the_top_away_from_that_of_the_dropped_label() -> None:
    prior = perturb(TopPrior((2, 2, 2), "position", CLASSES + 1), 0.5)
    label, dropped = torch.tensor([1]), torch.tensor([CLASSES])
    mode = torch.zeros(1, 2, 2, 2)
    plain, away = prior.inverse(mode, label), prior.inverse(mode, dropped)
    moved = prior.inverse(mode, label, Guidance(1.0, dropped)) - plain
    assert (moved * (plain - away) > 0).all()


@pytest.mark.parametrize("kind", FLOWS)
def test_log_prob_without_labels_is_that_of_all_classes_together(kind: str) -> None:
    flow, noise = made(kind), torch.rand(IMAGES.shape)
    given = torch.stack([flow.log_prob(IMAGES, torch.full((5,), label), noise) for label in range(CLASSES)])
    torch.testing.assert_close(flow.log_prob(IMAGES, None, noise), given.logsumexp(0) - math.log(CLASSES))


@pytest.mark.parametrize("condition", ["prior", "couplings"])
def test_log_prob_without_labels_of_a_flow_that_is_also_given_images(condition: str) -> None:
    flow = made("position", condition=condition, condition_shape=(1, 2, 2))
    noise, small = torch.rand(IMAGES.shape), IMAGES[:, :, ::4, ::4]
    given = torch.stack([flow.log_prob(IMAGES, torch.full((5,), label), noise, small) for label in range(CLASSES)])
    expected = given.logsumexp(0) - math.log(CLASSES)
    torch.testing.assert_close(flow.log_prob(IMAGES, None, noise, small), expected)


def test_many_classes_are_tried_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, noise = made("autoregressive"), torch.rand(IMAGES.shape)
    expected = flow.log_prob(IMAGES, None, noise)
    monkeypatch.setattr("flows.image_flow.AT_ONCE", 10)
    sizes: list[int] = []
    flow.multiscale.top.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(flow.log_prob(IMAGES, None, noise), expected)
    assert sizes == [10, 5]


def test_a_flow_with_classes_is_initialised_with_labels() -> None:
    flow = made("couplings")
    with pytest.raises(ValueError, match="is initialised with labels"):
        flows.initialize(flow, IMAGES)
    flows.initialize(flow, IMAGES, LABELS)


def test_the_value_under_the_dropped_label_is_another_one() -> None:
    flow, noise = made("position"), torch.rand(IMAGES.shape)
    dropped = flow.log_prob_of_dropped_label(IMAGES, noise)
    assert torch.equal(dropped, flow.log_prob(IMAGES, torch.full((5,), CLASSES), noise))
    assert not torch.isclose(dropped, flow.log_prob(IMAGES, None, noise)).any()


def test_level_temperatures_are_factors_on_the_temperature() -> None:
    flow = made("autoregressive")
    zs = flow.draw_latents(range(5))
    drawn = flow.sample(range(5), 0.5, LABELS, level_temperature=[0.2, 2.0])
    assert torch.equal(drawn, flow.decode([0.1 * zs[0], 1.0 * zs[1]], LABELS))


@pytest.mark.parametrize("kind", FLOWS)
def test_temperatures_come_after_guidance(kind: str) -> None:
    flow = made(kind)
    zs = flow.draw_latents(range(5))
    drawn = flow.sample(range(5), 0.5, LABELS, guidance=1.5, level_temperature=[0.2, 2.0])
    assert torch.equal(drawn, flow.decode([0.1 * zs[0], 1.0 * zs[1]], LABELS, guidance=1.5))
    mode = flow.sample(range(5), 0.0, torch.ones_like(LABELS), guidance=1.5)
    assert torch.equal(mode, mode[:1].expand_as(mode))


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"num_classes": None, "label_dropout": 0}, {"label": None}, "trained without labels"),
    ({"label_dropout": 0}, {}, r"trained without label dropout.*training.label_dropout=0.1"),
    ({}, {"guidance": -1}, "guidance is one finite number of at least 0, got -1"),
    ({}, {"guidance": "1"}, "guidance is one finite number of at least 0, got '1'"),
    ({}, {"guidance": math.nan}, "guidance is one finite number"),
    ({}, {"guidance": 0, "level_temperature": [1.0]}, "list of 2 temperatures, one per level"),
    ({}, {"guidance": 0, "level_temperature": 0.5}, "list of 2 temperatures"),
    (
        {},
        {"guidance": 0, "level_temperature": [1.0, -1.0]},
        "a temperature of level_temperature is at least 0, got -1.0",
    ),
]


@pytest.mark.parametrize(("changes", "arguments", "says"), WRONG, ids=str)
def test_what_cannot_be_drawn_is_told_before(changes: dict[str, Any], arguments: dict[str, Any], says: str) -> None:
    flow = made("autoregressive", **changes)
    told = {"guidance": 1.0, **{name: value for name, value in arguments.items() if name != "label"}}
    with pytest.raises(ValueError, match=says):
        flow.check_drawing(**told)


@pytest.mark.parametrize(("changes", "arguments", "says"), WRONG, ids=str)
def test_wrong_use_is_told(changes: dict[str, Any], arguments: dict[str, Any], says: str) -> None:
    flow = made("autoregressive", **changes)
    with pytest.raises(ValueError, match=says):
        flow.sample(range(5), **{"label": LABELS, "guidance": 1.0, **arguments})


def test_a_flow_whose_priors_read_no_labels_cannot_be_guided() -> None:
    flow = made("couplings")
    flow.multiscale.top = TopPrior(flow.latent_shapes[-1], "channel")
    for split in flow.multiscale.splits:
        split.context_channels = 0
    with pytest.raises(ValueError, match="those of this flow read no labels"):
        flow.sample(range(5), label=LABELS, guidance=1.0)


def test_maps_that_are_not_affine_cannot_be_guided() -> None:
    elementwise = COUPLINGS["mixture"](BoundedScale(1))
    block = AutoregressiveTransformer((1, 2, 2), elementwise, width=4, num_layers=1, num_heads=1, num_classes=2)
    with pytest.raises(ValueError, match="guidance is for Gaussians, and MixtureLogistic is no affine map"):
        block.inverse(torch.zeros(1, 1, 2, 2), torch.tensor([0]), Guidance(1.0, torch.tensor([1])))
    tarflow = {"num_blocks": 1, "num_layers": 1, "width": 4, "num_heads": 1, "coupling": "mixture"}
    flow = flows.build("tarflow", image_shape=(1, 8, 8), num_classes=3, label_dropout=0.1, **tarflow)
    with pytest.raises(ValueError, match="MixtureLogistic is no affine map: leave guidance out"):
        flow.check_drawing(guidance=1.0)


def test_a_map_with_its_own_inverse_cannot_be_guided_by_the_formula_of_its_parent() -> None:
    class Doubled(Affine):
        def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
            z, log_derivative = super().forward(2 * x, raw)
            return z, log_derivative + math.log(2)

        def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
            return super().inverse(z, raw) / 2

    with pytest.raises(ValueError, match="Doubled is no affine map"):
        Doubled(BoundedScale(1)).mean_and_log_sigma(torch.zeros(1, 2, 1, 1))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label_dropout": 1.0}, "from 0 to below 1, got 1.0"),
        ({"label_dropout": "0.1"}, "from 0 to below 1, got '0.1'"),
        ({"num_classes": 0}, "num_classes is a whole number of at least 1, got 0"),
        ({"num_classes": None}, "drops labels, and there are none: give num_classes, too"),
    ],
    ids=str,
)
def test_a_wrong_label_dropout_is_told(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made("position", **changes)
