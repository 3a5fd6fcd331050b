"""The inverse of a mixture of logistics: exact to rounding, quick, and for each entry by itself."""

import pytest
import torch
from torch import Tensor

from flows.bijections import mixture
from flows.bijections.mixture import Mixture, from_logit, logit_and_log_slope, logit_and_slope


def random_mixture(spread: float, dtype: torch.dtype, num_entries: int = 20_000) -> tuple[Tensor, Mixture]:
    """Return values of y = logit(F(x)) that belong to some x, and a mixture of four components for each."""
    logits, means, log_widths = spread * torch.randn(3, num_entries, 4, 1, 1, 1, dtype=dtype)
    known = Mixture(logits, means, log_widths.clamp(-7, 7))
    return logit_and_log_slope(2 * torch.randn(num_entries, 1, 1, 1, dtype=dtype), known)[0], known


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.3, 1, 4])
def test_it_is_exact_to_rounding_also_for_extreme_mixtures(spread: float, dtype: torch.dtype) -> None:
    y, known = random_mixture(spread, dtype)
    again = logit_and_log_slope(from_logit(y, known), known)[0]
    steepest = (-known.log_widths).exp().amax(1)
    assert ((again - y).abs() <= 32 * torch.finfo(dtype).eps * (1 + y.abs() + steepest)).all()


def test_it_takes_few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    monkeypatch.setattr(mixture, "logit_and_slope", lambda *columns: counts.append(1) or logit_and_slope(*columns))
    y, known = random_mixture(0.3, torch.float64)
    from_logit(y, known)
    assert len(counts) <= 10


def test_an_entry_does_not_depend_on_the_others() -> None:
    y, known = random_mixture(2, torch.float32, num_entries=64)
    alone = torch.cat([from_logit(y[k : k + 1], Mixture(*(part[k : k + 1] for part in known))) for k in range(64)])
    assert torch.equal(from_logit(y, known), alone)


def test_an_entry_that_is_not_finite_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "MOST_STEPS", 10)
    y, known = random_mixture(0.3, torch.float64, num_entries=8)
    expected = from_logit(y, known)
    y[0] = torch.nan
    found = from_logit(y, known)
    assert found[0].isnan() and torch.equal(found[1:], expected[1:])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("spread", [0.3, 1, 4])
def test_both_ways_to_compute_the_slope_agree(spread: float) -> None:
    y, known = random_mixture(spread, torch.float64, num_entries=1000)
    x = from_logit(y, known)
    value, log_slope = logit_and_log_slope(x, known)
    columns = [part.movedim(1, 0).flatten(1) for part in known]
    again, slope = logit_and_slope(x.flatten(), *columns)
    torch.testing.assert_close(again, value.flatten())
    torch.testing.assert_close(slope.log(), log_slope.flatten())


@pytest.mark.usefixtures("double")
def test_its_gradient_is_that_of_the_inverse_function() -> None:
    y, known = random_mixture(0.3, torch.float64, num_entries=3)
    inputs = [part.clone().requires_grad_() for part in (y, *known)]
    assert torch.autograd.gradcheck(lambda y, *parts: from_logit(y, Mixture(*parts)), inputs)


def test_its_values_are_the_same_with_gradients_and_without() -> None:
    y, known = random_mixture(8, torch.float32)
    with torch.no_grad():
        expected = from_logit(y, known)
    assert torch.equal(from_logit(y.requires_grad_(), known), expected)
