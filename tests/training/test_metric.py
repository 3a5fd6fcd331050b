"""Averages over images."""

import pytest
import torch

from flows.training import ImageAverage


def test_each_image_counts_once_whatever_the_order_and_the_padding() -> None:
    average = ImageAverage()
    average.update(torch.tensor([3.0, 1.0]), torch.tensor([2, 0]))
    average.update(torch.tensor([8.0, 1.0]), torch.tensor([1, 0]))
    found = average.compute()
    assert (found.mean, found.num_images, found.index.tolist()) == (4.0, 3, [0, 1, 2])
    assert found.standard_error == pytest.approx(torch.tensor([1.0, 8.0, 3.0]).std().item() / 3**0.5)
