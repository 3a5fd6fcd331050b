"""Sampling: one seed, one latent, whatever the batch; temperature scales it."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from flows.image_flow import ImageFlow
from tests.support.perturb import perturb

GLOW = {"name": "glow", "num_levels": 2, "num_steps": 2, "hidden_channels": 8, "scale": "tanh4"}
AUTOREGRESSIVE = {**GLOW, "top_prior": "autoregressive", "prior_width": 32}
FLOWS = {
    "glow": GLOW,
    "autoregressive prior": AUTOREGRESSIVE,
    "with labels": {**AUTOREGRESSIVE, "num_classes": 3, "label_dropout": 0.1},
    "tarflow": {"name": "tarflow", "num_blocks": 2, "num_layers": 1, "width": 8, "num_heads": 1},
}


@pytest.fixture
def flow(request: pytest.FixtureRequest) -> ImageFlow:
    spec: dict[str, Any] = FLOWS[getattr(request, "param", "glow")]
    return perturb(flows.build(image_shape=(1, 8, 8), **spec), 0.1)


def guided(flow: ImageFlow, seeds: Sequence[int]) -> dict[str, Any]:
    """Return a class for each seed, and guidance, for a flow with classes."""
    return {"label": torch.tensor(seeds) % flow.num_classes, "guidance": 1.5} if flow.num_classes else {}


def flatten(zs: list[Tensor]) -> Tensor:
    return torch.cat([z.flatten(1) for z in zs], 1)


def test_latents_of_a_seed_do_not_depend_on_the_batch(flow: ImageFlow) -> None:
    together = flatten(flow.draw_latents([3, 1, 4, 1]))
    for k, seed in enumerate([3, 1, 4, 1]):
        assert torch.equal(flatten(flow.draw_latents([seed]))[0], together[k])
    assert torch.equal(together[1], together[3])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("flow", FLOWS, indirect=True)
def test_images_of_a_seed_agree_between_batches(flow: ImageFlow) -> None:
    seeds = range(64)
    together = flow.sample(seeds, **guided(flow, seeds)).int()
    alone = torch.cat([flow.sample([seed], **guided(flow, [seed])) for seed in seeds]).int()
    assert (together - alone).abs().max() <= 1
    assert (together != alone).float().mean() < 1e-3


def test_matrices_are_inverted_once_a_call_and_nothing_is_kept(
    flow: ImageFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    invert = torch.linalg.inv
    monkeypatch.setattr("torch.linalg.inv", lambda weights: (sizes.append(tuple(weights.shape)), invert(weights))[1])
    before = flow.sample(range(4))
    assert sizes == [(2, 8, 8), (2, 4, 4)], "one inversion for the two steps of each level"
    perturb(flow, 0.1)
    assert not torch.equal(flow.sample(range(4)), before)
    assert len(sizes) == 4


@pytest.mark.parametrize("flow", FLOWS, indirect=True)
def test_autocast_changes_neither_samples_nor_latents(flow: ImageFlow) -> None:
    given = guided(flow, range(8))
    samples = flow.sample(range(8), 0.5, **given)
    label = given.get("label")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(flow.sample(range(8), 0.5, **given), samples)
        assert torch.equal(flow.decode(flow.encode(samples, label), label), samples)


def test_sampling_touches_no_global_generator(flow: ImageFlow) -> None:
    before = torch.get_rng_state()
    flow.sample([0, 1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["glow", "realnvp"])
def test_encoding_a_continuous_sample_gives_its_latents_back(name: str) -> None:
    flow = perturb(flows.build(name, image_shape=(1, 8, 8), num_levels=2, hidden_channels=8, scale="tanh4"), 0.02)
    zs = flow.draw_latents([0, 1, 2])
    again, _ = flow.multiscale(flow.multiscale.inverse(zs))
    for z, z_again in zip(zs, again, strict=True):
        torch.testing.assert_close(z_again, z, rtol=0, atol=1e-7)


def test_temperature_scales_all_latents(flow: ImageFlow) -> None:
    zs = flow.draw_latents([5])
    assert torch.equal(flow.sample([5], temperature=0.5), flow.decode([0.5 * z for z in zs]))


def test_temperature_zero_is_the_mode_whatever_the_seed(flow: ImageFlow) -> None:
    mode = flow.sample([0, 1, 2], temperature=0.0)
    assert torch.equal(mode[0], mode[1]) and torch.equal(mode[1], mode[2])
    assert torch.equal(mode, flow.decode([0 * z for z in flow.draw_latents([7, 8, 9])]))
