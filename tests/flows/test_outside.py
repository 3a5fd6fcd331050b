"""Scores of images from outside."""

import math
from typing import Any

import pytest
import torch

import flows
from flows.noise import uniform_noise
from flows.outside import DensityOfStates, Statistics, atypicality, statistics
from tests.support.perturb import perturb

SETTINGS = {"image_shape": (1, 8, 8), "num_levels": 2, "num_steps": 1, "hidden_channels": 4}


@pytest.mark.parametrize("given", [{}, {"num_classes": 3}, {"num_classes": 3, "condition": "couplings"}], ids=str)
def test_statistics_are_those_of_the_flow(given: dict[str, Any]) -> None:
    flow = perturb(flows.build("glow", **SETTINGS, **given), 0.1)
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    noise = uniform_noise(torch.arange(5), (1, 8, 8), seed=0, stream=0)
    found = statistics(flow, images, noise)
    with torch.no_grad():
        torch.testing.assert_close(found.bits, flows.bits_per_dim(flow.log_prob(images, noise=noise), flow.num_dims))
    label = None
    if flow.num_classes:
        of_classes = torch.stack([flow.log_prob(images, torch.full((5,), k), noise) for k in range(3)])
        label = of_classes.argmax(0)
    zs = flow.encode(images, label, noise=noise)
    for level, z in enumerate(zs):
        torch.testing.assert_close(found.squares[:, level], z.pow(2).flatten(1).mean(1))
    with torch.no_grad():
        given_best = flow.log_prob(images, label, noise)
    normal = sum(-0.5 * (z.pow(2) + math.log(2 * math.pi)).flatten(1).sum(1) for z in zs)
    torch.testing.assert_close(found.log_det, given_best - normal + 64 * math.log(256), rtol=1e-4, atol=1e-3)


def test_typicality_is_high_on_both_sides() -> None:
    score = atypicality(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.5, 2.5]))
    torch.testing.assert_close(score, torch.tensor([1.0, 0.0, 2.0]))


def test_densities_of_states_are_normalised_and_far_away_is_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3000, 2, generator=generator)
    train = Statistics(torch.zeros(3000), 5 + 2 * values[:, 0], 1 + 0.1 * values[:, 1:])
    density = DensityOfStates(train)
    log_det = torch.linspace(-10, 20, 3001)
    mean = train.squares.mean().expand(3001, 1)
    along = (-density.score(Statistics(log_det, log_det, mean))).exp()
    at_mean = (-density.score(Statistics(log_det[:1], log_det[:1], mean[:1]))).exp()
    assert at_mean < 1e-6
    height = 1 / (0.1 * math.sqrt(2 * math.pi))  # of the other density, at its mean
    assert torch.trapezoid(along, log_det.double()) == pytest.approx(height, rel=0.05)
    far = Statistics(torch.zeros(1), torch.tensor([1e4]), torch.tensor([[50.0]]))
    assert density.score(far).isfinite().all() and density.score(far) > density.score(train).max()
    with pytest.raises(ValueError, match="at least two images, got 1"):
        DensityOfStates(far)


def test_statistics_of_what_is_no_image_are_refused() -> None:
    flow = perturb(flows.build("glow", **SETTINGS), 0.1)
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    noise = torch.rand(images.shape)
    with pytest.raises(ValueError, match="the flow expects uint8 images"):
        statistics(flow, images / 255, noise)
    with pytest.raises(ValueError, match="noise has the shape of the images"):
        statistics(flow, images, noise[:1])


@pytest.mark.parametrize("preprocess", ["none", "logit", "gaussianize"])
def test_statistics_take_noise_in_either_precision(preprocess: str) -> None:
    flow = perturb(flows.build("glow", **SETTINGS, preprocess=preprocess), 0.1).double()
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    noise = torch.rand(images.shape)
    assert torch.equal(statistics(flow, images, noise).bits, statistics(flow, images, noise.double()).bits)
