"""Variational dequantization: the true log-determinant, noise within its bin, and a tighter bound."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import flows
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.likelihood import draw_log_probs
from flows.multiscale import Multiscale
from flows.prior import TopPrior
from flows.training import read_summary
from flows.variational_dequantize import VariationalDequantize
from tests.support.perturb import perturb
from tests.support.run import run_training


@pytest.mark.usefixtures("double")
def test_log_det_is_that_of_autograds_jacobian() -> None:
    dequantize = perturb(VariationalDequantize(3, (2, 4, 4)), 0.03)
    images = torch.randint(0, 256, (3, 2, 4, 4), dtype=torch.uint8)
    uniform = torch.rand(images.shape)
    _, log_det = dequantize.fill(images, uniform)
    for k, noise in enumerate(uniform):

        def fill(noise: Tensor, k: int = k) -> Tensor:
            return dequantize.fill(images[k : k + 1], noise[None])[0]

        jacobian = torch.autograd.functional.jacobian(fill, noise).reshape(32, 32)
        torch.testing.assert_close(log_det[k], torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-9)


def test_untrained_it_is_uniform() -> None:
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    noise = torch.rand(images.shape)
    ours, log_det = VariationalDequantize(8, (1, 8, 8))(images, noise)
    theirs, log_volume = Dequantize(8)(images, noise)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-7)
    torch.testing.assert_close(log_det, log_volume, rtol=0, atol=5e-3)  # of -355 nats


@pytest.mark.parametrize("num_bits", [1, 5, 8])
def test_noise_stays_in_its_bin_whatever_the_parameters_are(num_bits: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    dequantize = perturb(VariationalDequantize(num_bits, (1, 2, 2)), 3.0)
    expected = images // 2 ** (8 - num_bits) * 2 ** (8 - num_bits)
    for noise in (0.0, 0.5, 1 - 2**-16, 1 - 2**-24):
        x, log_det = dequantize(images, torch.full(images.shape, noise))
        assert torch.equal(dequantize.inverse(x), expected)
        assert log_det.isfinite().all()


def test_it_learns_noise_whose_bound_is_nearly_tight() -> None:
    """Under independent normal pixels of deviation sigma the probability of every 1-bit image is 1/16."""
    sigma, shape = 0.15, (1, 2, 2)
    torch.manual_seed(0)

    class Normal(flows.Bijection):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x / sigma, x.new_full((len(x),), -4 * math.log(sigma))

        def inverse(self, z: Tensor) -> Tensor:
            return z * sigma

    def flow_with(dequantize: Dequantize) -> ImageFlow:
        return ImageFlow(
            image_shape=shape,
            dequantize=dequantize,
            multiscale=Multiscale([Normal()], [], TopPrior(shape, "standard")),
        )

    images = torch.randint(0, 2, (256, *shape), dtype=torch.uint8) * 128
    index = torch.arange(256)
    exact = 4 * math.log(math.erf(0.5 / sigma / math.sqrt(2)) / 2)
    uniform, variational = flow_with(Dequantize(1)), flow_with(VariationalDequantize(1, shape))
    optimizer = torch.optim.Adam(variational.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (-variational.log_prob(images).mean()).backward()
        optimizer.step()
    gaps = []
    for flow in (uniform, variational):
        with torch.no_grad():
            gaps.append(exact - draw_log_probs(flow, images, None, index, num_draws=16, seed=0).mean().item())
    assert gaps[0] > 1
    assert 0 < gaps[1] < 0.1 * gaps[0]


def test_odd_images_are_refused() -> None:
    with pytest.raises(ValueError, match="dequantize=variational needs even H and W, got 7x8: take uniform"):
        flows.build("realnvp", image_shape=(1, 7, 8), num_levels=1, dequantize="variational")


def test_a_run_says_which_bound_it_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_training(tmp_path, "model.dequantize=variational", "trainer.max_steps=4")
    assert "(2 draws of variational noise each, seed 0)" in capsys.readouterr().out
    assert read_summary(tmp_path / "summary.json")["dequantize"] == "variational"
