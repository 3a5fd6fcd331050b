"""Images without content: of the named kind, fixed, of any shape."""

import pickle

import pytest
import torch

from data import Constant, Generated, Noise


@pytest.mark.parametrize("source", [Noise, Constant])
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 4, 6)])
def test_an_image_is_a_function_of_its_seed(source: type[Generated], image_shape: tuple[int, int, int]) -> None:
    train, test = source(image_shape, num_images=40, num_test=9).load()
    assert (len(train), len(test)) == (40, 9) and (train.labels == -1).all()
    images = train[[5, 0, 5]].images
    assert images.shape == (3, *image_shape) and images.dtype == torch.uint8
    assert torch.equal(images[0], images[2]) and not torch.equal(images[0], images[1])
    assert torch.equal(pickle.loads(pickle.dumps(train))[[5]].images[0], images[0])
    assert not torch.equal(train[[*range(9)]].images, test[[*range(9)]].images)


def test_noise_has_all_grey_levels_alike_and_no_pattern() -> None:
    images = Noise((3, 16, 16)).load()[0][[*range(100)]].images
    counts = torch.bincount(images.flatten().long(), minlength=256)
    assert counts.min() > 200 and counts.max() < 400  # 300 of each are expected
    flat = images.double().flatten(1)
    assert torch.corrcoef(torch.stack((flat[:, 1:].flatten(), flat[:, :-1].flatten())))[0, 1].abs() < 0.02


def test_a_constant_image_has_one_colour_and_images_differ() -> None:
    images = Constant((3, 5, 7)).load()[0][[*range(100)]].images
    assert (images == images[:, :, :1, :1]).all()
    colours = images[:, :, 0, 0]
    assert len(colours.unique(dim=0)) > 95 and len(colours.unique()) > 150
    assert not (colours[:, :1] == colours).all()
