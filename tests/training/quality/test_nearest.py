"""The nearest training images are found whatever the batches."""

import pytest
import torch

from data import TensorImages
from flows.training.quality.nearest import nearest


@pytest.mark.parametrize("batch_size", [7, 50, 100])
def test_a_training_image_finds_itself(batch_size: int) -> None:
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    found, gaps = nearest(images[[3, 49, 0]], TensorImages(images), batch_size)
    assert found.tolist() == [[3], [49], [0]] and gaps.max() < 1e-4


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_the_nearest_come_in_the_order_of_their_distances(batch_size: int) -> None:
    images = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    found, gaps = nearest(images[:5], TensorImages(images), batch_size, num_nearest=9)
    distances = (images[:5, None].double() - images[None].double()).pow(2).mean((2, 3, 4)).sqrt()
    ordered = distances.sort(stable=True)
    torch.testing.assert_close(gaps, ordered.values[:, :9], atol=1e-4, rtol=1e-6)
    assert torch.equal(found, ordered.indices[:, :9])
    assert nearest(images[:5], TensorImages(images[:3]), batch_size, num_nearest=9).rows.shape == (5, 3)


def test_gaps_are_in_grey_levels() -> None:
    image = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    among = torch.stack([image[0] + 50, image[0] + 7])
    found, gaps = nearest(image, TensorImages(among), 10)
    assert found.item() == 1 and gaps.item() == pytest.approx(7.0)


def test_features_decide_what_is_near() -> None:
    image = torch.tensor([[[[100, 200]]]], dtype=torch.uint8)
    among = TensorImages(torch.tensor([[[[110, 200]]], [[[100, 0]]]], dtype=torch.uint8))
    assert nearest(image, among, 2).rows.item() == 0
    found, gaps = nearest(image, among, 2, described=lambda images: images[:, 0, :, 0].float())
    assert found.item() == 1 and gaps.item() == 0
