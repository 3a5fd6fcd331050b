"""Each layer maps points as its forward maps numbers, can be undone, and moves as many bits as log_det says."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("constriction")

from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.autoregressive import AutoregressiveTransformer
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
from flows.coding import CodingError
from flows.coding.cells import back_through, points_near, through, values_at
from flows.coding.codec import starting_words
from flows.coding.layers import code_of
from flows.coding.linear import everywhere
from flows.coding.stack import BitStack
from flows.context import Context
from flows.networks.conditioner import ConvNet, plain_conv
from tests.flows.test_overriding import LAYERS
from tests.support.perturb import perturb

SHAPE = (4, 4, 4)


def coupling(mask: type[ChannelMask | CheckerboardMask], kind: str, scale: str) -> Coupling:
    made = mask(SHAPE[0], swap=True)
    elementwise = COUPLINGS[kind](SCALES[scale](made.part_channels))
    return Coupling(SHAPE[0], made, elementwise, lambda a, b: ConvNet(a, b, 8, plain_conv))


def transformer(kind: str, backwards: bool) -> AutoregressiveTransformer:
    elementwise = COUPLINGS[kind](SCALES["tanh4"](SHAPE[0]))
    return AutoregressiveTransformer(SHAPE, elementwise, width=8, num_layers=1, num_heads=2, backwards=backwards)


MAKERS: dict[str, Callable[[], Bijection]] = {
    "squeeze": Squeeze,
    "gaussianize": lambda: Gaussianize(SHAPE[0]),
    "logit": Logit,
    "actnorm": lambda: ActNorm(SHAPE[0]),
    "conv1x1": lambda: InvertibleConv1x1(SHAPE[0]),
    "conv1x1_lu": lambda: InvertibleConv1x1LU(SHAPE[0]),
    "unit": lambda: UnitConv1x1(SHAPE[0]),
    "whitening": lambda: WhiteningConv1x1(SHAPE[0]),
    "permutation": lambda: Permutation.random(SHAPE[0]),
    "folded": lambda: Folded(ActNorm(SHAPE[0]), InvertibleConv1x1(SHAPE[0])),
    **{f"channels-{kind}": lambda kind=kind: coupling(ChannelMask, kind, "tanh4") for kind in COUPLINGS},  # type: ignore[misc]
    **{f"checkerboard-{scale}": lambda s=scale: coupling(CheckerboardMask, "affine", s) for scale in SCALES},  # type: ignore[misc]
    "transformer": lambda: transformer("affine", backwards=False),
    "transformer-mixture": lambda: transformer("mixture", backwards=True),
    "chain": lambda: Chain(ActNorm(SHAPE[0]), coupling(ChannelMask, "affine", "sigmoid"), Squeeze()),
}


@pytest.fixture(params=MAKERS)
def layer(request: pytest.FixtureRequest) -> Bijection:
    torch.manual_seed(0)
    made = perturb(MAKERS[request.param](), 0.2)
    assert isinstance(made, Bijection)
    return made.eval()


def stack_of(num_words: int = 100_000) -> BitStack:
    return BitStack(starting_words(num_words // 16))


def numbers(layer: Bijection, count: int = 40) -> Tensor:
    """Return numbers that the layer is for, float64: in the cube, or about standard normal."""
    generator = torch.Generator().manual_seed(3)
    if isinstance(layer, Logit | Gaussianize):
        return torch.rand(count, *SHAPE, dtype=torch.double, generator=generator) - 0.5
    return torch.randn(count, *SHAPE, dtype=torch.double, generator=generator)


@torch.no_grad()
def test_a_layer_maps_points_moves_bits_and_goes_back(layer: Bijection) -> None:
    x = numbers(layer)
    points, stack = points_near(x), stack_of()
    start = stack.words()
    code = code_of(layer)
    z = code.through(points, stack, None)
    expected, log_det = layer(values_at(points).float())
    torch.testing.assert_close(values_at(z).float(), expected, rtol=1e-2, atol=5e-3)
    bits = 32 * (len(start) - stack.num_words)  # a map that spreads numbers takes bits
    assert bits == pytest.approx(log_det.sum().item() / math.log(2), rel=0.01, abs=64)
    again = code.back_through(z, stack, None)
    assert torch.equal(again, points) and np.array_equal(stack.words(), start)


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "steep": lambda x: 500 * x,
    "flat": lambda x: x / 5000,
    "bent": lambda x: x + 3 * torch.tanh(40 * x),
    "constant": lambda x: 0 * x,
}


@pytest.mark.parametrize("name", MAPS)
def test_any_map_that_does_not_fall_can_be_undone(name: str) -> None:
    points, stack = points_near(10 * torch.randn(2000, dtype=torch.double)), stack_of()
    start, all_of_them = stack.words(), everywhere(points)
    z = through(MAPS[name], points, stack, all_of_them)
    torch.testing.assert_close(values_at(z), MAPS[name](values_at(points)), rtol=1e-3, atol=1e-2)
    assert torch.equal(back_through(MAPS[name], z, stack, all_of_them), points)
    assert np.array_equal(stack.words(), start)


def test_entries_that_are_not_mapped_stay_and_take_no_bits() -> None:
    points, stack = points_near(torch.randn(100, dtype=torch.double)), stack_of()
    start, none = stack.words(), torch.zeros(100, dtype=torch.bool)
    assert torch.equal(through(MAPS["steep"], points, stack, none), points)
    assert np.array_equal(stack.words(), start)


def test_numbers_out_of_reach_and_points_of_no_image_are_refused() -> None:
    stack = stack_of()
    far = points_near(torch.tensor([1.7e4], dtype=torch.double))
    with pytest.raises(CodingError, match="too far from all that the flow knows"):
        through(MAPS["identity"], far, stack, everywhere(far))
    with pytest.raises(CodingError, match="not those of images"):
        back_through(MAPS["flat"], far, stack, everywhere(far))


OWN_WAYS = "forward of a matrix", "transform of a matrix", "forward of one instance", "coupling"


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "mask with a parameter"])
@torch.no_grad()
def test_a_subclass_is_coded_as_it_maps_or_not_at_all(name: str) -> None:
    torch.manual_seed(0)
    layer = perturb(LAYERS[name](), 0.1).eval()
    assert isinstance(layer, Bijection)
    if name in OWN_WAYS:
        with pytest.raises(ValueError, match=f"no lossless code for layers of type {type(layer).__name__}"):
            code_of(layer)
        return
    points = points_near(numbers(layer))
    z = code_of(layer).through(points, stack_of(), None)
    torch.testing.assert_close(values_at(z).float(), layer(values_at(points).float())[0], rtol=1e-2, atol=5e-3)


def test_layers_without_a_code_are_named() -> None:
    class Mine(Bijection):
        def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
            return x, x.new_zeros(len(x))

        def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
            return z

    with pytest.raises(ValueError, match="there is no lossless code for layers of type Mine: take another flow"):
        code_of(Mine())
