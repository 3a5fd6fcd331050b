"""Autoregressive transformers: exact both ways, and no token sees a later one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.scale import BoundedScale
from flows.context import Context
from flows.guidance import Guidance
from tests.support.perturb import perturb

pytestmark = pytest.mark.usefixtures("double")

SHAPE = CHANNELS, HEIGHT, WIDTH = 2, 2, 3
FIXED = torch.Generator().manual_seed(1)
CONTEXTS: dict[str, tuple[dict[str, int], Context | None]] = {
    "none": ({}, None),
    "labels": ({"num_classes": 3}, torch.tensor([0, 2, 1, 1])),
    "features": ({"context_channels": 4}, torch.randn(4, 4, 2, 3, dtype=torch.double, generator=FIXED)),
    "both": (
        {"num_classes": 3, "context_channels": 4},
        (torch.randn(4, 4, 1, 1, dtype=torch.double, generator=FIXED), torch.tensor([0, 2, 1, 1])),
    ),
}


def made(coupling: str = "affine", backwards: bool = False, **context: int) -> AutoregressiveTransformer:
    elementwise = COUPLINGS[coupling](BoundedScale(CHANNELS))
    sizes = {"width": 8, "num_layers": 2, "num_heads": 2}
    return perturb(AutoregressiveTransformer(SHAPE, elementwise, backwards=backwards, **sizes, **context))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_both_inverses_undo_it_and_the_log_det_is_that_of_the_jacobian(
    coupling: str, backwards: bool, context: str
) -> None:
    arguments, told = CONTEXTS[context]
    bijection, x = made(coupling, backwards, **arguments), torch.randn(4, *SHAPE)
    z, log_det = bijection(x, told)
    for parallel in (False, True):
        bijection.parallel = parallel
        with torch.no_grad():
            torch.testing.assert_close(bijection.inverse(z, told), x, rtol=0, atol=1e-11)

    def of_all(images: Tensor) -> Tensor:
        return bijection(images, told)[0].sum(0)

    jacobians = torch.autograd.functional.jacobian(of_all, x).flatten(0, 2).transpose(0, 1).flatten(2)
    torch.testing.assert_close(torch.linalg.slogdet(jacobians).logabsdet, log_det, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_no_token_sees_a_later_one(backwards: bool) -> None:
    bijection, x = made(backwards=backwards), torch.randn(1, *SHAPE)
    z = bijection(x)[0].flatten(2)
    order = range(HEIGHT * WIDTH)[:: -1 if backwards else 1]
    for place, token in enumerate(order):
        changed = x.flatten(2).clone()
        changed[:, :, token] += 1
        moved = (bijection(changed.view_as(x))[0].flatten(2) != z).any(1)[0]
        assert not moved[[*order[:place]]].any() and moved[[*order[place:]]].all()


def test_the_tests_notice_a_token_that_sees_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", lambda *heads, **_: attend(*heads))
    with pytest.raises(AssertionError):
        test_no_token_sees_a_later_one(backwards=False)
    with pytest.raises(AssertionError):
        test_both_inverses_undo_it_and_the_log_det_is_that_of_the_jacobian("affine", False, "none")


def test_the_inverse_has_the_gradient_of_the_inverse() -> None:
    bijection, x = made(), torch.randn(1, *SHAPE)
    forward = torch.autograd.functional.jacobian(lambda x: bijection(x)[0], x).reshape(12, 12)
    z = bijection(x)[0].detach()
    backward = torch.autograd.functional.jacobian(bijection.inverse, z).reshape(12, 12)
    torch.testing.assert_close(forward @ backward, torch.eye(12), rtol=0, atol=1e-9)


@pytest.mark.parametrize("parallel", [False, True])
def test_guided_inverses_agree(parallel: bool) -> None:
    bijection, z = made(num_classes=3), torch.randn(4, *SHAPE)
    label, guidance = torch.tensor([0, 1, 1, 0]), Guidance(1.5, torch.full((4,), 2))
    expected = bijection.inverse(z, label, guidance)
    bijection.parallel = parallel
    with torch.no_grad():
        torch.testing.assert_close(bijection.inverse(z, label, guidance), expected, rtol=0, atol=1e-9)
    assert not torch.allclose(bijection.inverse(z, label), expected)


def test_the_first_token_is_mapped_too() -> None:
    bijection, x = made(num_classes=3), torch.randn(1, *SHAPE)
    one, other = (bijection(x, torch.tensor([label]))[0][0, :, 0, 0] for label in (0, 1))
    assert (one != x[0, :, 0, 0]).all() and (one != other).all()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_parallel_inverse_ends_and_stays_finite_on_random_weights(scale: float) -> None:
    bijection = made()
    bijection.parallel = True
    for parameter in bijection.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    calls = []
    bijection.transformer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        assert bijection.inverse(torch.randn(4, *SHAPE)).isfinite().all()
    assert len(calls) <= HEIGHT * WIDTH


def test_the_inverses_agree_on_latents_far_away() -> None:
    bijection, z = made(), 1e8 * torch.randn(4, *SHAPE)
    with torch.no_grad():
        expected = bijection.inverse(z)
        bijection.parallel = True
        torch.testing.assert_close(bijection.inverse(z), expected, rtol=1e-9, atol=0)


def test_a_token_that_overflows_does_not_spoil_those_before_it() -> None:
    bijection, z = made(), torch.randn(4, CHANNELS, HEIGHT * WIDTH)
    z[:, :, 4] = 1e300
    with torch.no_grad():
        expected = bijection.inverse(z.view(4, *SHAPE)).flatten(2)
        bijection.parallel = True
        found = bijection.inverse(z.view(4, *SHAPE)).flatten(2)
    assert expected[:, :, :4].isfinite().all()
    torch.testing.assert_close(found[:, :, :4], expected[:, :, :4], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: made()(torch.randn(1, 2, 3, 2)), r"expects \(B, 2, 2, 3\), got \(1, 2, 3, 2\)"),
        (lambda: made(num_classes=3)(torch.randn(2, *SHAPE)), r"needs a label for each image, \(2,\), got none"),
        (
            lambda: AutoregressiveTransformer(
                SHAPE, COUPLINGS["additive"](BoundedScale(2)), width=9, num_layers=1, num_heads=2
            ),
            "a multiple of its heads, got 9 and 2",
        ),
    ],
    ids=["shape", "labels", "heads"],
)
def test_wrong_use_is_told(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
