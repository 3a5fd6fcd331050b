"""Subclasses compute what they say in chains, inverted and memory-flat: nothing inherited contradicts them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1, InvertibleConv1x1LU
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import Affine, ElementwiseMap
from flows.bijections.folded import Folded
from flows.bijections.linear import ChannelLinear
from flows.bijections.mask import ChannelMask
from flows.bijections.permutation import Permutation
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import BoundedScale, PlainScale
from flows.networks.conditioner import HIDDEN_CONVS, ConvNet
from tests.support.perturb import perturb

pytestmark = pytest.mark.usefixtures("double")

PIXELS = 4 * 2 * 2


class HalvedForward(InvertibleConv1x1):
    """Has a forward and an inverse of its own, and the vjp of a matrix."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z.sinh(), log_det + z.cosh().log().sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z.asinh())


class OtherTransform(InvertibleConv1x1):
    """Does something after the matrix, on the way there and on the way back."""

    def transform(self, x: Tensor, *prepared: object) -> tuple[Tensor, Tensor]:
        z, log_det = super().transform(x, *prepared)
        return 2 * z, log_det + PIXELS * torch.tensor(2.0).log()

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z / 2)


class Tempered(ActNorm):
    """Has an affine of its own, and what ActNorm knows about another one."""

    @staticmethod
    def affine(layers: list["Tempered"]) -> tuple[Tensor, Tensor]:
        scales = torch.stack([layer.log_scale for layer in layers]).tanh().exp()
        return torch.diag_embed(scales), torch.stack([layer.bias for layer in layers])


class TemperedLU(InvertibleConv1x1LU):
    """Likewise."""

    @staticmethod
    def affine(layers: list["TemperedLU"]) -> tuple[Tensor, Tensor]:
        weights, biases = InvertibleConv1x1LU.affine(layers)
        return 1.5 * weights, biases


class Turned(ChannelLinear):
    """A matrix and nothing else, without so much as the number of its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels) + 0.1 * torch.randn(channels, channels))

    def matrix(self) -> Tensor:
        return self.weight.tril(1)


class TurnedAround(Turned):
    """A matrix of another matrix, and a bias made of both."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mean = nn.Parameter(torch.zeros(channels))

    def matrix(self) -> tuple[Tensor, Tensor]:
        weight = super().matrix() @ super().matrix()
        return weight, -weight @ self.mean


class ShearedActNorm(ActNorm):
    """Has a matrix of its own, and all that ActNorm knows about another one."""

    def matrix(self) -> tuple[Tensor, Tensor]:
        weight, bias = super().matrix()
        return weight + 0.3 * weight.flip(0), bias.flip(0)


class ShearedLU(InvertibleConv1x1LU):
    """Likewise."""

    def matrix(self) -> Tensor:
        weight, _ = super().matrix()
        return weight + 0.1 * weight.flip(0)


class TurnedPermutation(Permutation):
    """Likewise."""

    def __init__(self, channels: int) -> None:
        super().__init__(torch.randperm(channels))
        self.turn = nn.Parameter(torch.eye(channels))

    def matrix(self) -> Tensor:
        weight, _ = super().matrix()
        return self.turn @ weight


class TemperedTurn(Turned):
    """The batched form of another matrix."""

    @staticmethod
    def affine(layers: list["TemperedTurn"]) -> tuple[Tensor, Tensor]:
        weights, biases = Turned.affine(layers)
        return 1.5 * weights, biases + 0.5


class Mixin:
    """A forward that comes before that of the class it is mixed into."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z + z.square().sum((1, 2, 3), keepdim=True) * 0, log_det

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z)


class Shifted(Mixin, Coupling):
    """A coupling with a parameter and a forward of its own."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.shift = nn.Parameter(torch.zeros(4, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z + self.shift, log_det

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z - self.shift)


class Cubic(Affine):
    """An elementwise map with a forward and an inverse of its own."""

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        z, log_scale = super().forward(x, raw)
        return z.sinh(), log_scale + z.cosh().log()

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        return super().inverse(z.asinh(), raw)


class HalvedScale(BoundedScale):
    """A scale whose slope is that of another one."""

    def forward(self, raw: Tensor) -> Tensor:
        return 0.5 * super().forward(raw)


class TrainedScale(PlainScale):
    """A scale with a parameter, of which the slope knows nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.size = nn.Parameter(torch.ones(()))

    def forward(self, raw: Tensor) -> Tensor:
        return self.size * raw

    def slope(self, log_scale: Tensor) -> Tensor:
        return self.size.expand_as(log_scale)


class ScaledMask(ChannelMask):
    """A mask with a parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.size = nn.Parameter(torch.ones(()))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = super().split(x)
        return first * self.size, second

    def merge(self, x1: Tensor, x2: Tensor) -> Tensor:
        return super().merge(x1 / self.size, x2)


def coupling(
    make: type[Coupling] = Coupling,
    elementwise: type[ElementwiseMap] = Affine,
    scale: Callable[[int], nn.Module] = BoundedScale,
    mask: type[ChannelMask] = ChannelMask,
) -> Coupling:
    return make(4, mask(4), elementwise(scale(2)), lambda i, o: ConvNet(i, o, 5, HIDDEN_CONVS["actnorm"]))


def with_own_forward() -> Bijection:
    """One instance whose forward was replaced."""
    layer = InvertibleConv1x1(4)
    inner = layer.forward
    layer.forward = lambda x: inner(x)
    return layer


LAYERS: dict[str, Callable[[], Bijection]] = {
    "forward of a matrix": lambda: HalvedForward(4),
    "transform of a matrix": lambda: OtherTransform(4),
    "affine of actnorm": lambda: Tempered(4),
    "affine of LU": lambda: TemperedLU(4),
    "folded affine of actnorm": lambda: Folded(Tempered(4), TemperedLU(4)),
    "matrix alone": lambda: Turned(4),
    "matrix of a matrix": lambda: TurnedAround(4),
    "matrix of actnorm": lambda: ShearedActNorm(4),
    "matrix of LU": lambda: ShearedLU(4),
    "matrix of a permutation": lambda: TurnedPermutation(4),
    "affine of a matrix": lambda: TemperedTurn(4),
    "folded matrices": lambda: Folded(ActNorm(4), Turned(4), TurnedAround(4), ShearedLU(4), TurnedPermutation(4)),
    "several matrices": lambda: Chain(Turned(4), TurnedAround(4), Turned(4), ShearedActNorm(4), TurnedAround(4)),
    "several folded matrices": lambda: Chain(*(Folded(ActNorm(4), Turned(4)) for _ in range(2))),
    "forward of one instance": with_own_forward,
    "coupling": lambda: coupling(Shifted),
    "elementwise map": lambda: coupling(elementwise=Cubic),
    "scale": lambda: coupling(scale=HalvedScale),
    "scale with a parameter": lambda: coupling(scale=TrainedScale),
    "mask with a parameter": lambda: coupling(mask=ScaledMask),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_subclass_means_the_same_everywhere(name: str) -> None:
    layer = perturb(LAYERS[name](), 0.1)
    chain = Chain(InvertibleConv1x1(4), layer, InvertibleConv1x1(4))
    x = (0.3 * torch.randn(3, 4, 2, 2)).requires_grad_()
    before, _ = chain.bijections[0](x)
    z, log_det = layer(before)
    jacobian = torch.autograd.functional.jacobian(lambda image: layer(image[None])[0][0], before[0].detach())
    expected = torch.linalg.slogdet(jacobian.reshape(PIXELS, PIXELS)).logabsdet
    torch.testing.assert_close(log_det[0], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(chain(x)[0], chain.bijections[2](z)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(chain.inverse(chain(x)[0]), x, rtol=0, atol=1e-10)

    weights, gradients = torch.randn_like(x), []
    for chain.memory_flat in (False, True):
        z, log_det = chain(x)
        loss = (z * weights).sum() + (log_det * torch.arange(3.0)).sum()
        gradients.append(torch.autograd.grad(loss, [x, *chain.parameters()], allow_unused=True))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)


def test_layers_of_the_project_keep_their_own_ways() -> None:
    assert InvertibleConv1x1.runs_as_matrix and InvertibleConv1x1LU.runs_as_matrix and Folded.runs_as_matrix
    assert Turned.runs_as_matrix and TemperedTurn.runs_as_matrix
    for kind in (ActNorm, Folded, InvertibleConv1x1, InvertibleConv1x1LU, Permutation):
        assert kind.affine is not ChannelLinear.affine
    assert not ActNorm.runs_as_matrix and not Permutation.runs_as_matrix
    assert Coupling.vjp is not Bijection.vjp and Affine.vjp is not ElementwiseMap.vjp


def test_a_layer_says_of_itself_what_it_says_of_several() -> None:
    makers = (ActNorm, InvertibleConv1x1, InvertibleConv1x1LU, Permutation.random, TurnedAround, TemperedTurn)
    for make in makers:
        layers = [perturb(make(4), 0.1) for _ in range(2)]
        for layer, *batched in zip(layers, *layers[0].affine(layers), strict=True):
            assert all(torch.equal(one, other) for one, other in zip(layer.matrix(), batched, strict=True))


def test_matrices_of_unlike_sizes_stand_in_one_chain() -> None:
    chain = Chain(Turned(4), Squeeze(), Turned(16), TurnedAround(16))
    x = torch.randn(2, 4, 2, 2)
    torch.testing.assert_close(chain.inverse(chain(x)[0]), x, rtol=0, atol=1e-10)


def test_a_layer_with_no_matrix_says_so() -> None:
    class Empty(ChannelLinear):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no matrix: give it a `matrix`"):
        Empty()(torch.randn(2, 4, 2, 2))


def test_folded_refuses_a_member_whose_forward_it_would_leave_out() -> None:
    with pytest.raises(ValueError, match="HalvedForward has a forward of its own, but Folded goes by affine"):
        Folded(ActNorm(4), HalvedForward(4))
