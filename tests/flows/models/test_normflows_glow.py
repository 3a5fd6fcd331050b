"""The model to compare with is normflows' own, under the contract of this project."""

import pytest
import torch

import flows
from scripts.peers.normflows_glow import NormflowsGlow
from tests.support.perturb import perturb


@pytest.fixture(params=["none", "gaussianize"])
def flow(request: pytest.FixtureRequest) -> NormflowsGlow:
    flow = NormflowsGlow(
        image_shape=(1, 8, 8),
        num_levels=2,
        num_steps=2,
        hidden_channels=8,
        preprocess=request.param,
        channels_last=True,
    )
    flows.initialize(flow, images())
    return perturb(flow, 0.05)


def images() -> torch.Tensor:
    return torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_log_prob_is_what_normflows_computes(flow: NormflowsGlow) -> None:
    noise = torch.rand(16, 1, 8, 8)
    x, expected = flow.dequantize(images(), noise)
    for bijection in flow.multiscale.preprocess:
        x, log_det = bijection(x)
        expected = expected + log_det
    expected = expected + flow.multiscale.flow.log_prob(x, None)
    torch.testing.assert_close(flow.log_prob(images(), None, noise), expected, rtol=1e-5, atol=1e-3)


def test_it_decodes_what_it_encodes(flow: NormflowsGlow) -> None:
    zs = flow.encode(images())
    assert [tuple(z.shape[1:]) for z in zs] == flow.latent_shapes
    assert torch.equal(flow.decode(zs), images())
