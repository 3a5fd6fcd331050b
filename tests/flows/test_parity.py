"""The same numbers as independent code, normflows and nflows, with the parameters copied over. In float64.

Conventions that differ, and what the copying does about them:

- Direction: `forward` of normflows generates, from latents to data, and `inverse` is our `forward`; `forward` of
  nflows is ours. Where the text below says so, a normflows map is compared as it stands, `forward` with `forward`.
- Log-determinants: normflows returns one number for the batch where all images share it; ours is `(B,)`.
- ActNorm: ours is (x + bias) * exp(log_scale); normflows (x - t) * exp(-s); nflows x * exp(log_scale) + shift.
- 1x1 convolution: W x in all three. LU: ours and normflows' are P (L + I) (U + diag(sign * exp(log_s))); nflows
  permutes first, (L + I) (U + diag(softplus(u) + 1e-3)) P x + bias, and so knows no negative diagonal.
- Squeeze: the same order of channels, 4c + 2dh + dw.
- Coupling: ours reads shifts from the first half of the network's channels and raw scales from the second, like
  nflows; in normflows they alternate. As a map to latents, normflows' "sigmoid" is (x - shift) * sigmoid(raw + 2),
  our "shifted_affine" with the sign of the shift turned; nflows' is x * (sigmoid(raw + 2) + 1e-3) + shift, our
  "affine" with another scale.
- Conditioner: our last layer is scaled by exp(3 log_scale), theirs is a bare convolution; our hidden layers'
  normalisation is (conv + bias) * exp(log_scale), normflows' is conv * exp(s) + t.
- Split: our learned prior is, in normflows, a coupling with scale "exp" in front of a fixed N(0, I).
- Top prior: normflows' `GlowBase` multiplies mean and log sigma by exp(3 logs); ours has no such factor.
- Total: ours is the log-probability of a bin, normflows' the density of the continuous image in [-1/2, 1/2); they
  differ by log(256) a dimension.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import nflows.transforms
import normflows as nf
import pytest
import torch
from torch import Tensor, nn

import flows
from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.conv1x1 import InvertibleConv1x1, InvertibleConv1x1LU
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import COUPLINGS, Affine
from flows.bijections.folded import Folded
from flows.bijections.linear import ChannelLinear
from flows.bijections.mask import ChannelMask, CheckerboardMask
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import SCALES, LearnedTanhScale
from flows.networks.conditioner import HIDDEN_CONVS, ActNormConv2d, ConvNet, ZeroConv2d
from flows.prior import Split, TopPrior
from tests.support.perturb import perturb

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning"),  # in normflows
    pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated:UserWarning"),  # in nflows
]

CHANNELS = 8
HIDDEN = 6

State = dict[str, Tensor]
Map = Callable[[Tensor], tuple[Tensor, Tensor]]

close = partial(torch.testing.assert_close, rtol=1e-9, atol=0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, CHANNELS, 4, 6)


def assert_parity(ours: Bijection, x: Tensor, their_forward: Map, their_inverse: Map) -> None:
    """Compare both directions at `x`, the log-determinant too."""
    z, log_det = ours(x)
    their_z, their_log_det = their_forward(x)
    close(z, their_z)
    close(log_det, torch.as_tensor(their_log_det, dtype=x.dtype).expand(len(x)))
    close(ours.inverse(x), their_inverse(x)[0])


def per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def actnorm_state(ours: ActNorm) -> State:
    """Parameters for normflows."""
    s, t = per_channel(-ours.log_scale), per_channel(-ours.bias)
    return {"s": s, "t": t, "data_dep_init_done": torch.tensor(1.0)}


def conv1x1_state(ours: ChannelLinear) -> State:
    """Parameters for normflows."""
    if isinstance(ours, InvertibleConv1x1):
        return {"W": ours.weight}
    assert isinstance(ours, InvertibleConv1x1LU)
    triangles = {"P": ours.permutation, "L": ours.lower, "U": ours.upper, "eye": torch.eye(ours.channels)}
    return triangles | {"log_S": ours.log_s, "sign_S": ours.sign}


def last_conv_state(ours: ZeroConv2d, *, sign: int, alternate: bool) -> State:
    """Parameters for a bare convolution whose shifts get the given sign and, maybe, alternate with the scales."""
    scale = (3 * ours.log_scale).exp()
    state = {}
    for name, value in (("weight", ours.weight * scale[:, None, None, None]), ("bias", ours.bias * scale)):
        shift, raw_scale = value.chunk(2)
        pair = (sign * shift, raw_scale)
        state[name] = torch.stack(pair, 1).flatten(0, 1) if alternate else torch.cat(pair)
    return state


def net_state(ours: ConvNet, *, sign: int = 1, alternate: bool = True) -> State:
    """Parameters for normflows' ConvNet2d."""
    *hidden, last = (layer for layer in ours if not isinstance(layer, nn.ReLU))
    state, position = {}, 0
    for conv in hidden:
        state[f"net.{position}.weight"] = conv.weight
        if isinstance(conv, ActNormConv2d):
            state[f"net.{position + 1}.actNorm.s"] = per_channel(conv.log_scale)
            state[f"net.{position + 1}.actNorm.t"] = per_channel(conv.bias * conv.log_scale.exp())
            state[f"net.{position + 1}.actNorm.data_dep_init_done"] = torch.tensor(1.0)
            position += 3
        else:
            state[f"net.{position}.bias"] = conv.bias
            position += 2
    return state | prefixed(f"net.{position}", last_conv_state(last, sign=sign, alternate=alternate))


def loaded(module: nn.Module, state: State) -> nn.Module:
    """Load `state`, which has to name every parameter and buffer of `module`."""
    module.load_state_dict(state)
    return module


def test_actnorm_equals_that_of_normflows(x: Tensor) -> None:
    ours = perturb(ActNorm(CHANNELS))
    theirs = loaded(nf.flows.ActNorm((CHANNELS, 1, 1)), actnorm_state(ours))
    assert_parity(ours, x, theirs.inverse, theirs.forward)


def test_actnorm_equals_that_of_nflows(x: Tensor) -> None:
    ours = perturb(ActNorm(CHANNELS))
    shift = ours.bias * ours.log_scale.exp()
    state = {"log_scale": ours.log_scale, "shift": shift, "initialized": torch.tensor(True)}
    theirs = loaded(nflows.transforms.ActNorm(CHANNELS), state)
    assert_parity(ours, x, theirs.forward, theirs.inverse)


def test_actnorm_starts_like_theirs_up_to_the_unbiased_variance(x: Tensor) -> None:
    """Ours divides the sum of squares by N, theirs by N - 1, and normflows adds 1e-6 to the deviation."""
    x = 3 * x + 2
    ours = ActNorm(CHANNELS)
    of_normflows = nf.flows.ActNorm((CHANNELS, 1, 1))
    of_nflows = nflows.transforms.ActNorm(CHANNELS)
    flows.initialize(ours, x)
    of_normflows.inverse(x)
    of_nflows(x)
    count = x.numel() // CHANNELS
    bessel = 0.5 * math.log(count / (count - 1))
    close(ours.bias, -of_normflows.t.flatten())
    close(ours.bias, of_nflows.shift / of_nflows.log_scale.exp())
    close(ours.log_scale, bessel - (of_normflows.s.exp() - 1e-6).log().flatten())
    close(ours.log_scale, bessel + of_nflows.log_scale)


@pytest.mark.parametrize("make", [InvertibleConv1x1, InvertibleConv1x1LU])
def test_1x1_convolutions_equal_those_of_normflows(make: type[ChannelLinear], x: Tensor) -> None:
    ours = perturb(make(CHANNELS))
    use_lu = make is InvertibleConv1x1LU
    theirs = loaded(nf.flows.Invertible1x1Conv(CHANNELS, use_lu=use_lu), conv1x1_state(ours))
    assert_parity(ours, x, theirs.inverse, theirs.forward)


def test_the_dense_1x1_convolution_equals_that_of_nflows(x: Tensor) -> None:
    """Theirs multiplies L and U onto permuted channels: their product, its columns put back, is our matrix."""
    theirs = perturb(nflows.transforms.OneByOneConvolution(CHANNELS, identity_init=False))
    nn.init.zeros_(theirs.bias)
    order = theirs.permutation._permutation
    ours = loaded(InvertibleConv1x1(CHANNELS), {"weight": theirs.weight()[:, order.argsort()]})
    assert_parity(ours, x, theirs.forward, theirs.inverse)


def test_the_lu_1x1_convolution_equals_that_of_nflows(x: Tensor) -> None:
    """With positive diagonals, and our permutation, which comes last, as a layer of its own."""
    ours = perturb(InvertibleConv1x1LU(CHANNELS))
    ours.sign.fill_(1)
    triangles = nflows.transforms.OneByOneConvolution(CHANNELS)
    state = {
        "lower_entries": ours.lower[triangles.lower_indices],
        "upper_entries": ours.upper[triangles.upper_indices],
        "unconstrained_upper_diag": (ours.log_s.exp() - 1e-3).expm1().log(),
        "bias": torch.zeros(CHANNELS),
        "permutation._permutation": torch.arange(CHANNELS),
    }
    permutation = nflows.transforms.Permutation(ours.permutation.argmax(dim=1))
    theirs = nflows.transforms.CompositeTransform([loaded(triangles, state), permutation])
    assert_parity(ours, x, theirs.forward, theirs.inverse)


def test_squeeze_equals_that_of_normflows(x: Tensor) -> None:
    theirs = nf.flows.Squeeze()
    assert_parity(Squeeze(), x, theirs.inverse, theirs.forward)


def test_squeeze_equals_that_of_nflows(x: Tensor) -> None:
    theirs = nflows.transforms.SqueezeTransform()
    assert_parity(Squeeze(), x, theirs.forward, theirs.inverse)


def channel_coupling(elementwise: Affine, swap: bool, hidden_conv: str = "plain") -> Coupling:
    make_conditioner = partial(ConvNet, hidden_channels=HIDDEN, hidden_conv=HIDDEN_CONVS[hidden_conv])
    return perturb(Coupling(CHANNELS, ChannelMask(CHANNELS, swap), elementwise, make_conditioner))


def normflows_coupling(ours: Coupling, scale_map: str, sign: int, net_actnorm: bool = False) -> nn.Module:
    half = CHANNELS // 2
    net = nf.nets.ConvNet2d((half, HIDDEN, HIDDEN, CHANNELS), (3, 1, 3), actnorm=net_actnorm)
    loaded(net, net_state(ours.conditioner, sign=sign))
    return nf.flows.AffineCouplingBlock(
        net, scale_map=scale_map, split_mode="channel_inv" if ours.mask.swap else "channel"
    )


@pytest.mark.parametrize("hidden_conv", HIDDEN_CONVS)
@pytest.mark.parametrize("swap", [False, True])
def test_the_shifted_affine_coupling_equals_that_of_normflows(swap: bool, hidden_conv: str, x: Tensor) -> None:
    ours = channel_coupling(COUPLINGS["shifted_affine"](SCALES["sigmoid"](CHANNELS // 2)), swap, hidden_conv)
    theirs = normflows_coupling(ours, "sigmoid", sign=-1, net_actnorm=hidden_conv == "actnorm")
    assert_parity(ours, x, theirs.inverse, theirs.forward)


@pytest.mark.parametrize("swap", [False, True])
def test_the_affine_coupling_equals_that_of_normflows(swap: bool, x: Tensor) -> None:
    """Theirs as it stands: with "sigmoid_inv", `forward` is x * sigmoid(raw + 2) + shift."""
    ours = channel_coupling(COUPLINGS["affine"](SCALES["sigmoid"](CHANNELS // 2)), swap)
    theirs = normflows_coupling(ours, "sigmoid_inv", sign=1)
    assert_parity(ours, x, theirs.forward, theirs.inverse)


class NflowsScale(nn.Module):
    """The scale that nflows builds into its affine coupling, as one of ours."""

    def forward(self, raw: Tensor) -> Tensor:
        return (torch.sigmoid(raw + 2) + 1e-3).log()


class NflowsNet(nf.nets.ConvNet2d):
    """A network that takes, and ignores, the context which nflows passes."""

    def forward(self, x: Tensor, context: None) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize("swap", [False, True])
def test_the_affine_coupling_equals_that_of_nflows(swap: bool, x: Tensor) -> None:
    ours = channel_coupling(COUPLINGS["affine"](NflowsScale()), swap)

    def make_net(in_channels: int, out_channels: int) -> nn.Module:
        net = NflowsNet((in_channels, HIDDEN, HIDDEN, out_channels), (3, 1, 3))
        return loaded(net, net_state(ours.conditioner, alternate=False))

    transformed = torch.arange(CHANNELS) < CHANNELS // 2 if swap else torch.arange(CHANNELS) >= CHANNELS // 2
    theirs = nflows.transforms.AffineCouplingTransform(transformed, make_net)
    assert_parity(ours, x, theirs.forward, theirs.inverse)


@pytest.mark.parametrize("swap", [False, True])
def test_the_checkerboard_coupling_equals_the_masked_flow_of_normflows(swap: bool, x: Tensor) -> None:
    """Theirs as it stands: `forward` is x * exp(s) + t where the mask is 0, with a network each for s and t."""
    conv = partial(nn.Conv2d, CHANNELS, kernel_size=3, padding=1)
    scale = LearnedTanhScale(CHANNELS)
    ours = perturb(Coupling(CHANNELS, CheckerboardMask(CHANNELS, swap), Affine(scale), lambda _, out: conv(out)))
    net = ours.conditioner
    shift, raw_scale = ({"weight": w, "bias": b} for w, b in zip(net.weight.chunk(2), net.bias.chunk(2), strict=True))
    stretch = nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS, bias=False)
    loaded(stretch, {"weight": scale.range[:, None, None, None]})
    s = nn.Sequential(loaded(conv(CHANNELS), raw_scale), nn.Tanh(), stretch)
    height, width = x.shape[2:]
    kept = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == int(swap)
    theirs = nf.flows.MaskedAffineFlow(kept.to(x).repeat(CHANNELS, 1, 1), t=loaded(conv(CHANNELS), shift), s=s)
    assert_parity(ours, x, theirs.forward, theirs.inverse)


def normflows_step(mix: Folded, coupling: Coupling) -> nn.Module:
    actnorm, conv1x1 = mix.members
    theirs = nf.flows.GlowBlock(
        mix.channels,
        HIDDEN,
        use_lu=isinstance(conv1x1, InvertibleConv1x1LU),
        net_actnorm=isinstance(coupling.conditioner[0], ActNormConv2d),
    )
    state = {
        **prefixed("flows.2", actnorm_state(actnorm)),
        **prefixed("flows.1", conv1x1_state(conv1x1)),
        **prefixed("flows.0.flows.1.param_map", net_state(coupling.conditioner, sign=-1)),
    }
    return loaded(theirs, state)


def normflows_split(split: Split) -> nn.Module:
    """The learned prior as a coupling: its inverse is (x2 - mu) * exp(-log sigma)."""
    net = nf.nets.ConvNet2d((split.channels // 2, split.channels), (3,))
    loaded(net, prefixed("net.0", last_conv_state(split.conditioner[-1], sign=1, alternate=True)))
    return nf.flows.AffineCouplingBlock(net, scale_map="exp")


def normflows_top(top: TopPrior) -> nn.Module:
    if top.bias is None:
        return nf.distributions.DiagGaussian(top.shape, trainable=False)
    loc, log_scale = top.bias[None].chunk(2, dim=1)
    if loc.shape[1:] == top.shape:
        return loaded(nf.distributions.DiagGaussian(top.shape), {"loc": loc, "log_scale": log_scale})
    zeros = torch.zeros_like(loc)
    state = {"loc": loc, "log_scale": log_scale, "loc_logs": zeros, "log_scale_logs": zeros}
    if top.embedding is None:
        return loaded(nf.distributions.GlowBase(top.shape), state)
    state["loc_cc"], state["log_scale_cc"] = top.embedding.weight.chunk(2, dim=1)
    return loaded(nf.distributions.GlowBase(top.shape, top.embedding.num_embeddings), state)


def normflows_glow(ours: flows.ImageFlow) -> nf.MultiscaleFlow:
    """The same two levels, listed from latents to data as normflows has it."""
    levels = []
    for squeeze, *layers in ours.multiscale.levels:
        assert isinstance(squeeze, Squeeze)
        steps = [normflows_step(mix, coupling) for mix, coupling in zip(layers[::2], layers[1::2], strict=True)]
        levels.append([*reversed(steps), nf.flows.Squeeze()])
    fine, coarse = levels
    (split,) = ours.multiscale.splits
    return nf.MultiscaleFlow(
        [normflows_top(ours.multiscale.top), nf.distributions.DiagGaussian(ours.latent_shapes[0], trainable=False)],
        [coarse, [normflows_split(split), *fine]],
        [nf.flows.Merge()],
        transform=nf.transforms.Shift(-0.5),
        class_cond=ours.num_classes is not None,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"image_shape": (1, 8, 8), "top_prior": "position", "conditioner": "plain"},
        {"image_shape": (3, 8, 12), "top_prior": "channel", "permutation": "conv1x1_lu"},
        {"image_shape": (3, 8, 8), "top_prior": "channel", "num_classes": 5},
        {"image_shape": (1, 8, 8), "top_prior": "standard"},
    ],
)
def test_a_whole_glow_has_the_log_prob_of_normflows(options: dict[str, Any]) -> None:
    """From uint8 images, noise given: "shifted_affine" with "sigmoid" is the coupling that both can express."""
    spec = {
        "num_levels": 2,
        "num_steps": 2,
        "hidden_channels": HIDDEN,
        "coupling": "shifted_affine",
        "scale": "sigmoid",
    }
    ours = perturb(flows.build("glow", **spec, **options), 0.1)
    theirs = normflows_glow(ours)
    images = torch.randint(0, 256, (5, *ours.image_shape), dtype=torch.uint8)
    noise = torch.randint(0, 2**16, images.shape) / 2**16
    label = None if ours.num_classes is None else torch.arange(5)
    density = ours.log_prob(images, label, noise) + ours.num_dims * math.log(256)
    close(density, theirs.log_prob((images + noise) / 256, label))
