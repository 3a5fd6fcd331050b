"""The nearest training image is found whatever the batches."""

import pytest
import torch

from data import TensorImages
from flows.training.quality.nearest import nearest


@pytest.mark.parametrize("batch_size", [7, 50, 100])
def test_a_training_image_finds_itself(batch_size: int) -> None:
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    rows = [3, 49, 0]
    found, gaps = nearest(images[rows], TensorImages(images), batch_size)
    assert torch.equal(found, images[rows]) and gaps.max() < 1e-4


def test_gaps_are_in_grey_levels() -> None:
    image = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    among = torch.stack([image[0] + 7, image[0] + 50])
    found, gaps = nearest(image, TensorImages(among), 10)
    assert torch.equal(found[0], among[0]) and gaps.tolist() == pytest.approx([7.0])
