"""The likelihood is right: known values, mass one, bounds in the right order, noise as promised."""

import math

import pytest
import torch
from torch import Tensor

import flows
from flows.bijection import Bijection
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim, draw_log_probs, importance_weighted_bits_per_dim, mean_bits_per_dim
from flows.multiscale import Multiscale
from flows.noise import uniform_noise
from flows.prior import TopPrior
from tests.support.perturb import perturb

SHAPE = (1, 2, 2)


class CubeToNormal(Bijection):
    """The map under which N(0, I) latents make x uniform on the cube."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.special.ndtri((x + 0.5).clamp(1e-12, 1 - 1e-12))
        return z, 0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        return torch.special.ndtr(z) - 0.5


class Scale(Bijection):
    """z = x / sigma."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x / self.sigma, x.new_full((len(x),), -x[0].numel() * math.log(self.sigma))

    def inverse(self, z: Tensor) -> Tensor:
        return z * self.sigma


def flow_of(bijection: Bijection, num_bits: int, shape: tuple[int, int, int] = SHAPE) -> ImageFlow:
    return ImageFlow(
        image_shape=shape,
        dequantize=Dequantize(num_bits),
        multiscale=Multiscale([bijection], [], TopPrior(shape, "standard")),
    )


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_a_uniform_model_scores_exactly_num_bits(num_bits: int) -> None:
    flow = flow_of(CubeToNormal(), num_bits, (3, 4, 4))
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    noise = torch.rand(images.shape, dtype=torch.float64)
    bits = bits_per_dim(flow.log_prob(images, noise=noise), flow.num_dims)
    torch.testing.assert_close(bits, torch.full((5,), float(num_bits), dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_linear_gaussian_model_has_its_analytic_value() -> None:
    sigma = 0.3
    flow = flow_of(Scale(sigma), 8)
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    log_prob = flow.log_prob(images, noise=torch.full(images.shape, 0.5, dtype=torch.float64))
    x = (images.double() + 0.5) / 256 - 0.5
    expected = (-0.5 * (x / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))).sum((1, 2, 3)) - 4 * math.log(256)
    torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=0)


@pytest.mark.usefixtures("double")
def test_all_small_images_together_have_the_mass_of_the_cube() -> None:
    """All 256 2-bit 1x2x2 images: the sum of their probabilities is the density's mass in the cube."""
    flow = flows.build(
        "glow", image_shape=SHAPE, num_levels=1, num_steps=2, hidden_channels=8, num_bits=2, scale="tanh4"
    )
    grey = torch.cartesian_prod(*[torch.arange(4)] * 4).view(-1, *SHAPE)
    images = (64 * grey).to(torch.uint8)
    flows.initialize(flow, images)
    perturb(flow, 0.1)
    with torch.no_grad():
        log_probs = torch.stack([flow.log_prob(images, noise=torch.rand(images.shape)) for _ in range(400)])

        points = 24
        axis = (torch.arange(points) + 0.5) / points - 0.5
        cells = torch.cartesian_prod(*[axis] * 4).view(-1, *SHAPE)
        zs, log_det = flow.multiscale(cells)
        density = torch.exp(torch.distributions.Normal(0.0, 1.0).log_prob(zs[0]).sum((1, 2, 3)) + log_det)
        quadrature = density.mean()

    probabilities = log_probs.exp()
    mass = probabilities.mean(0).sum()
    standard_error = (probabilities.var(0) / len(probabilities)).sum().sqrt()
    assert 0.1 < quadrature < 1
    assert standard_error < 0.01 * mass
    assert abs(mass - quadrature) < 3 * standard_error
    fresh = torch.stack([flow.log_prob(images, noise=torch.rand(images.shape)) for _ in range(100)])
    assert fresh.mean(0).exp().sum() < quadrature


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("coupling", "dequantize"), [("affine", "uniform"), ("mixture", "uniform"), ("affine", "variational")]
)
def test_the_mass_of_all_small_images_and_of_samples_outside_of_the_cube_is_one(coupling: str, dequantize: str) -> None:
    """Gaussianize maps the cube to nearly all of space, so that little of a flow's mass is outside of it."""
    spec = {"num_levels": 1, "num_steps": 2, "hidden_channels": 8, "num_bits": 2, "scale": "tanh4"}
    choices = {"preprocess": "gaussianize", "coupling": coupling, "dequantize": dequantize}
    flow = flows.build("glow", image_shape=SHAPE, **spec, **choices)
    images = (64 * torch.cartesian_prod(*[torch.arange(4)] * 4).view(-1, *SHAPE)).to(torch.uint8)
    flows.initialize(flow, images)
    perturb(flow.multiscale, 0.05)
    perturb(flow.dequantize, 0.01)
    with torch.no_grad():
        probabilities = torch.stack([flow.log_prob(images, noise=torch.rand(images.shape)) for _ in range(800)]).exp()
        x = flow.multiscale.inverse([torch.randn(20_000, 4, 1, 1)])
    mass = probabilities.mean(0).sum()
    standard_error = (probabilities.var(0) / len(probabilities)).sum().sqrt()
    outside = (x.abs() >= 0.5).flatten(1).any(1).double().mean()
    assert standard_error < 0.01 and outside < 0.1
    assert abs(mass + outside - 1) < 3 * standard_error + 0.005


@pytest.mark.usefixtures("double")
def test_the_mass_is_one_with_an_autoregressive_prior() -> None:
    """The RealNVP has one level of 2x2 pixels, so that the prior has four tokens."""
    spec = {"num_levels": 1, "hidden_channels": 8, "num_blocks": 1, "num_bits": 2, "num_classes": 2}
    spec |= {"top_prior": "autoregressive", "prior_layers": 1, "prior_width": 32}
    flow = flows.build("realnvp", image_shape=SHAPE, preprocess="gaussianize", **spec)
    assert flow.latent_shapes == [(1, 2, 2)]
    images = (64 * torch.cartesian_prod(*[torch.arange(4)] * 4).view(-1, *SHAPE)).to(torch.uint8)
    label = torch.ones(len(images), dtype=torch.int64)
    flows.initialize(flow, images, label)
    perturb(flow.multiscale, 0.02)
    with torch.no_grad():
        draws = [flow.log_prob(images, label, torch.rand(images.shape)) for _ in range(800)]
        x = flow.multiscale.inverse([torch.randn(20_000, 1, 2, 2)], torch.ones(20_000, dtype=torch.int64))
    probabilities = torch.stack(draws).exp()
    mass = probabilities.mean(0).sum()
    standard_error = (probabilities.var(0) / len(probabilities)).sum().sqrt()
    outside = (x.abs() >= 0.5).flatten(1).any(1).double().mean()
    assert standard_error < 0.01 and outside < 0.1
    assert abs(mass + outside - 1) < 3 * standard_error + 0.005


def test_the_importance_weighted_bound_is_the_tighter_one() -> None:
    log_probs = torch.randn(16, 7) - 100
    assert (importance_weighted_bits_per_dim(log_probs, 4) < mean_bits_per_dim(log_probs, 4)).all()
    one = log_probs[:1]
    torch.testing.assert_close(importance_weighted_bits_per_dim(one, 4), mean_bits_per_dim(one, 4))


def test_dequantized_values_stay_in_their_bins_in_float32() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    dequantize = Dequantize(8)
    for noise in (0.0, 0.5, 1 - 2**-16, 1 - 2**-24):
        x, _ = dequantize(images, torch.full(images.shape, noise))
        assert torch.equal(dequantize.inverse(x), images)


def test_noise_is_uniform_and_on_its_grid() -> None:
    noise = uniform_noise(torch.arange(1000), (1, 10, 10), seed=0, stream=0)
    assert noise.dtype == torch.float32 and noise.min() >= 0 and noise.max() < 1
    assert torch.equal((noise * 2**16).round(), noise * 2**16)
    counts = torch.histc(noise, bins=50, min=0, max=1)
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 85.4  # the 99.9% point for 49 degrees of freedom
    flat = noise.flatten() - 0.5
    for lag in (1, 10, 100, 1000):
        assert abs((flat[lag:] * flat[:-lag]).mean() * 12) < 4 / len(flat) ** 0.5


def test_noise_depends_on_each_coordinate_and_on_nothing_else() -> None:
    index = torch.tensor([5, 2, 900])
    noise = uniform_noise(index, (3, 4, 4), seed=1, stream=2)
    assert torch.equal(uniform_noise(index[1:2], (3, 4, 4), seed=1, stream=2)[0], noise[1])
    assert not torch.equal(noise[0], noise[1])
    for other in ({"seed": 2, "stream": 2}, {"seed": 1, "stream": 1}, {"seed": 2, "stream": 1}):
        assert not torch.equal(uniform_noise(index, (3, 4, 4), **other), noise)


def test_draws_do_not_depend_on_the_batch() -> None:
    flow = perturb(flows.build("glow", image_shape=(1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4), 0.1)
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    index = torch.arange(6)
    whole = draw_log_probs(flow, images, None, index, num_draws=3, seed=0)
    part = draw_log_probs(flow, images[4:], None, index[4:], num_draws=3, seed=0)
    torch.testing.assert_close(whole[:, 4:], part)
    assert whole.shape == (3, 6) and not torch.equal(whole[0], whole[1])


def test_log_prob_is_pure_and_leaves_images_alone() -> None:
    flow = perturb(flows.build("glow", image_shape=(1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4), 0.1)
    images = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    before, noise = images.clone(), torch.rand(images.shape)
    assert torch.equal(flow.log_prob(images, noise=noise), flow.log_prob(images, noise=noise))
    assert torch.equal(images, before)
