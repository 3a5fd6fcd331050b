"""The learning rate over a run."""

import pytest

from flows.training import WarmupDecay


def test_it_rises_over_the_warm_up_stays_and_falls_to_zero() -> None:
    schedule = WarmupDecay(warmup_steps=4, decay_fraction=0.5)
    assert [schedule(step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [schedule(9, progress) for progress in (0.25, 0.5, 0.75, 1.0)] == [1, 1, 0.5, 0]
    assert schedule(1, 0.75) == 0.25


def test_without_warm_up_and_decay_it_is_constant() -> None:
    assert [WarmupDecay()(step, progress) for step, progress in ((0, 0.0), (9, 1.0))] == [1, 1]


@pytest.mark.parametrize("wrong", [{"warmup_steps": -1}, {"decay_fraction": -0.1}, {"decay_fraction": 1.1}])
def test_wrong_arguments_are_named(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        WarmupDecay(**wrong)  # type: ignore[arg-type]
