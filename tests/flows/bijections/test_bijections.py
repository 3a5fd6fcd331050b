"""Every bijection: exact inverse, true log-determinant, gradients, state, shapes. In float64, at tiny sizes."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1, InvertibleConv1x1LU, UnitConv1x1, WhiteningConv1x1
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.folded import Folded
from flows.bijections.mask import ChannelMask, CheckerboardMask
from flows.bijections.permutation import Permutation
from flows.bijections.preprocess import Gaussianize, Logit
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import SCALES
from flows.initialize import initialize
from flows.models.glow import PERMUTATIONS
from flows.networks.conditioner import HIDDEN_CONVS, ConvNet, ResNet
from tests.support.perturb import perturb

pytestmark = pytest.mark.usefixtures("double")

CHANNELS = 4


def coupling(
    name: str = "affine",
    scale: str = "tanh4",
    mask: type[ChannelMask | CheckerboardMask] = ChannelMask,
    swap: bool = False,
    conditioner: Callable[..., torch.nn.Module] | None = None,
) -> Coupling:
    chosen = mask(CHANNELS, swap=swap)
    elementwise = COUPLINGS[name](SCALES[scale](chosen.part_channels))
    return Coupling(CHANNELS, chosen, elementwise, partial(conditioner or actnorm_net, hidden_channels=6))


actnorm_net = partial(ConvNet, hidden_conv=HIDDEN_CONVS["actnorm"])
plain_net = partial(ConvNet, hidden_conv=HIDDEN_CONVS["plain"])
resnet = partial(ResNet, num_blocks=1)


def gaussianize() -> Gaussianize:
    """One that has seen data whose channels differ, with two grey levels that never occur."""
    layer = Gaussianize(CHANNELS, num_bins=8)
    x = torch.rand(20, CHANNELS, 4, 4).pow(torch.arange(1.0, CHANNELS + 1)[:, None, None]) * 0.75 - 0.5
    initialize(layer, x)
    return layer


MAKERS: dict[str, Callable[[], Bijection]] = {
    "actnorm": lambda: ActNorm(CHANNELS),
    **{name: partial(make, CHANNELS) for name, make in PERMUTATIONS.items()},
    "unit-conv1x1": lambda: UnitConv1x1(CHANNELS),
    "folded": lambda: Folded(ActNorm(CHANNELS), InvertibleConv1x1LU(CHANNELS), Permutation.reversal(CHANNELS)),
    **{f"coupling-{name}": partial(coupling, name) for name in COUPLINGS},
    **{f"scale-{scale}": partial(coupling, scale=scale) for scale in SCALES},
    "channel-swapped": partial(coupling, swap=True),
    "checkerboard": partial(coupling, mask=CheckerboardMask),
    "checkerboard-swapped": partial(coupling, "shifted_affine", "sigmoid", mask=CheckerboardMask, swap=True),
    "plain-net": partial(coupling, conditioner=plain_net),
    "limited-net": partial(coupling, conditioner=partial(actnorm_net, input_limit=0.5)),
    "resnet": partial(coupling, conditioner=resnet),
    "squeeze": Squeeze,
    "logit": Logit,
    "gaussianize": lambda: gaussianize(),
    "chain": lambda: Chain(Logit(), coupling(), ActNorm(CHANNELS), Permutation.reversal(CHANNELS), coupling(swap=True)),
}


@pytest.fixture(params=MAKERS)
def bijection(request: pytest.FixtureRequest) -> Bijection:
    return perturb(MAKERS[request.param]())


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, CHANNELS, 2, 4) - 0.5


def test_inverse_undoes_forward(bijection: Bijection, x: Tensor) -> None:
    z, _ = bijection(x)
    torch.testing.assert_close(bijection.inverse(z), x, rtol=0, atol=1e-11)


def test_forward_undoes_inverse(bijection: Bijection, x: Tensor) -> None:
    z = 0.3 * torch.randn_like(bijection(x)[0])
    torch.testing.assert_close(bijection(bijection.inverse(z))[0], z, rtol=0, atol=1e-11)


def test_log_det_is_that_of_autograds_jacobian(bijection: Bijection, x: Tensor) -> None:
    _, log_det = bijection(x)
    assert log_det.shape == (len(x),)
    for image, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda image: bijection(image[None])[0][0], image)
        expected = torch.linalg.slogdet(jacobian.reshape(image.numel(), image.numel())).logabsdet
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)


def test_vjp_equals_autograd_and_rebuilds_the_input(bijection: Bijection, x: Tensor) -> None:
    x.requires_grad_()
    z, log_det = bijection(x)
    grad_z, grad_log_det = torch.randn_like(z), torch.randn_like(log_det)
    outputs = (z, log_det) if log_det.requires_grad else (z,)
    torch.autograd.backward(outputs, (grad_z, grad_log_det)[: len(outputs)])
    expected = {name: parameter.grad for name, parameter in bijection.named_parameters()}

    rebuilt, grad_x, gradients, of_context = bijection.vjp(z.detach(), grad_z, grad_log_det)
    assert of_context == []

    torch.testing.assert_close(rebuilt, x.detach(), rtol=0, atol=1e-11)
    torch.testing.assert_close(grad_x, x.grad, rtol=1e-9, atol=1e-9)
    for (name, gradient), found in zip(expected.items(), gradients, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9, msg=name)


def test_gradients_reach_every_parameter(bijection: Bijection, x: Tensor) -> None:
    z, log_det = bijection(x)
    loss = (z * torch.randn_like(z)).sum() + log_det.sum()
    if parameters := dict(bijection.named_parameters()):
        loss.backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None and parameter.grad.count_nonzero() > 0, name


def test_state_dict_carries_the_whole_function(request: pytest.FixtureRequest, x: Tensor) -> None:
    for make in MAKERS.values():
        original, copy = perturb(make()), make()
        copy.load_state_dict(original.state_dict())
        assert torch.equal(original(x)[0], copy(x)[0])


def test_a_bad_shape_is_rejected_with_expected_and_got(bijection: Bijection) -> None:
    for bad in (torch.zeros(3, CHANNELS + 1, 3, 3), torch.zeros(CHANNELS, 2, 2)):
        if bijection.channels is None and not isinstance(bijection, Squeeze | Chain) and bad.dim() == 4:
            continue
        with pytest.raises(ValueError, match=r"expects \(B, .*got \(") as caught:
            bijection(bad)
        assert str(tuple(bad.shape)) in str(caught.value)


def test_folding_changes_nothing(x: Tensor) -> None:
    members = perturb(ActNorm(CHANNELS)), perturb(InvertibleConv1x1LU(CHANNELS))
    folded, plain = Folded(*members)(x), Chain(*members)(x)
    for one, other in zip(folded, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [ActNorm, lambda channels: Folded(ActNorm(channels), Permutation.random(channels))])
def test_initialisation_standardises_each_channel_once(make: Callable[[int], Bijection]) -> None:
    bijection = make(CHANNELS)
    x = torch.randn(32, CHANNELS, 4, 4) * torch.tensor([0.1, 1.0, 5.0, 20.0])[:, None, None] + 3
    initialize(bijection, x)
    z, _ = bijection(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(CHANNELS), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), torch.ones(CHANNELS))
    before = {name: value.clone() for name, value in bijection.state_dict().items()}
    bijection(x + 1)
    assert all(torch.equal(before[name], value) for name, value in bijection.state_dict().items())


def test_initialisation_survives_a_constant_channel() -> None:
    actnorm = ActNorm(2)
    initialize(actnorm, torch.stack([torch.full((8, 4, 4), 7.0), torch.randn(8, 4, 4)], dim=1))
    assert all(parameter.isfinite().all() for parameter in actnorm.parameters())
    assert actnorm.log_scale[0] == 0


@pytest.mark.parametrize("name", ["conv1x1", "conv1x1_lu"])
def test_1x1_convolutions_start_orthogonal(name: str) -> None:
    layer = PERMUTATIONS[name](6)
    ((weight,), _), (log_abs_det,) = layer.affine([layer]), layer.log_abs_det([layer])
    torch.testing.assert_close(weight @ weight.T, torch.eye(6))
    torch.testing.assert_close(log_abs_det, torch.zeros(()))


def test_couplings_start_as_the_identity_up_to_their_scale(x: Tensor) -> None:
    z, log_det = coupling("affine", "tanh4")(x)
    assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(len(x)))


def test_gaussianize_makes_the_grey_values_it_has_seen_standard_normal() -> None:
    images = torch.tensor([0, 0, 0, 0, 0, 3, 3, 200]).repeat(500).view(10, 2, 20, 10)
    x = (images + torch.rand(images.shape)) / 256 - 0.5
    layer = Gaussianize(2, smoothing=0.0)
    initialize(layer, x)
    z = layer(x)[0].flatten().sort().values
    quantiles = torch.special.ndtri((torch.arange(len(z)) + 0.5) / len(z))
    assert (torch.special.ndtr(z) - torch.special.ndtr(quantiles)).abs().max() < 0.03


def test_gaussianize_inverts_in_single_precision_at_rare_grey_levels() -> None:
    layer = Gaussianize(1).float()
    initialize(layer, torch.full((4, 1, 8, 8), -0.499, dtype=torch.float32))
    x = ((torch.arange(256, dtype=torch.float32) + 0.5) / 256 - 0.5).view(1, 1, 16, 16)
    assert (layer.inverse(layer(x)[0]) - x).abs().max() < 0.1 / 256


def test_squeeze_orders_channels_like_the_original_release() -> None:
    x = torch.arange(2 * 2 * 2.0).view(1, 2, 2, 2)
    z, _ = Squeeze()(x)
    for c in range(2):
        for dh in range(2):
            for dw in range(2):
                assert z[0, 4 * c + 2 * dh + dw, 0, 0] == x[0, c, dh, dw]


def test_a_coupling_leaves_its_conditioning_part_alone(x: Tensor) -> None:
    for mask in (ChannelMask, CheckerboardMask):
        for swap in (False, True):
            layer = perturb(coupling(mask=mask, swap=swap))
            kept, changed = layer.mask.split(layer(x)[0])
            was_kept, was_changed = layer.mask.split(x)
            assert torch.equal(kept, was_kept)
            assert not torch.allclose(changed, was_changed)


def test_whitening_makes_channels_uncorrelated_and_puts_the_largest_variance_first() -> None:
    mixed = torch.einsum("ij,bjhw->bihw", torch.randn(CHANNELS, CHANNELS), torch.randn(50, CHANNELS, 4, 4)) + 3
    whitening = WhiteningConv1x1(CHANNELS)
    initialize(whitening, mixed)
    rows = whitening(mixed)[0].detach().permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(rows.t().cov(correction=0), torch.eye(CHANNELS), rtol=0, atol=1e-9)
    lengths = whitening.weight.detach().norm(dim=1)  # of the rows: one over the deviation of each component
    assert torch.equal(lengths, lengths.sort().values)
    assert whitening.state_dict().keys() == InvertibleConv1x1(CHANNELS).state_dict().keys()


def test_whitening_of_equal_channels_stays_finite() -> None:
    grey = torch.randn(50, 1, 4, 4).expand(-1, CHANNELS, -1, -1)
    whitening = WhiteningConv1x1(CHANNELS)
    initialize(whitening, grey)
    z, log_det = whitening(grey)
    assert z.isfinite().all() and log_det.isfinite().all()
    torch.testing.assert_close(whitening.inverse(z), grey)


def test_an_exchange_swaps_the_halves_at_start() -> None:
    x = torch.randn(2, CHANNELS, 3, 3)
    exchanged, log_det = InvertibleConv1x1.exchange(CHANNELS)(x)
    assert torch.equal(exchanged, torch.cat((x[:, CHANNELS // 2 :], x[:, : CHANNELS // 2]), 1))
    assert torch.equal(log_det, torch.zeros(2))


def test_the_scale_of_the_weights_of_a_unit_convolution_has_no_effect() -> None:
    x, layer = torch.randn(2, CHANNELS, 3, 3), perturb(UnitConv1x1(CHANNELS))
    z, log_det = layer(x)
    with torch.no_grad():
        layer.weight.mul_(3.0)
    torch.testing.assert_close(layer(x)[0], z, rtol=0, atol=1e-12)
    assert torch.equal(log_det, torch.zeros(2))
