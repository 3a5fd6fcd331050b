"""Distances between sets of features: nothing between equal sets, closed forms between Gaussians."""

import pytest
import torch

from flows.training.quality.distances import distances


def test_a_set_is_at_no_distance_from_itself() -> None:
    features = torch.randn(500, 8)
    found = distances(features, features)
    assert found.fd == pytest.approx(0, abs=1e-6)
    assert found.kid == pytest.approx(0, abs=0.1)
    assert found.precision == found.recall == 1


def test_the_frechet_distance_of_gaussians_has_a_closed_form(double: None) -> None:
    scales = torch.tensor([0.5, 1.0, 2.0])
    found = distances(torch.randn(4000, 3), 1 + scales * torch.randn(4000, 3))
    assert found.fd == pytest.approx((3 + (scales - 1).square().sum()).item(), rel=0.05)


def test_sets_far_apart_share_nothing() -> None:
    one, other = torch.randn(300, 4), torch.randn(300, 4) + 50
    found = distances(one, other)
    assert found.precision == found.recall == 0 and found.kid > 1


def test_samples_of_one_mode_have_precision_without_recall() -> None:
    real = torch.cat([torch.randn(500, 4), torch.randn(500, 4) + 20])
    found = distances(torch.randn(1000, 4), real)
    assert found.precision > 0.9 and 0.4 < found.recall < 0.55


@pytest.mark.parametrize("counts", [(8, 100), (100, 8)], ids=["samples", "real images"])
def test_fewer_images_than_features_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"8 (samples|real images) are too few for 8 features"):
        distances(*(torch.randn(count, 8) for count in counts))
