"""Augmentation: exact mirrors, shifts and windows, the same for an image whatever its batch."""

import pytest
import torch

from data import Augment, Batch
from data.augment import CentreCrop
from data.image_set import TensorImages

IMAGES = torch.randint(0, 256, (400, 2, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.zeros(400), torch.arange(400))
ALL = Augment(horizontal_flip=True, max_shift=2, random_crop=True)


def test_nothing_changes_by_default() -> None:
    assert Augment()(BATCH, (6, 8), seed=0, step=0) is BATCH


def test_half_of_the_images_are_mirrored() -> None:
    images = Augment(horizontal_flip=True)(BATCH, (6, 8), seed=0, step=0).images
    same, mirrored = ((images == other).flatten(1).all(1) for other in (IMAGES, IMAGES.flip(3)))
    assert (same ^ mirrored).all() and 160 < mirrored.sum() < 240


def test_shifts_are_uniform_and_repeat_the_edge() -> None:
    images = Augment(max_shift=1)(BATCH, (6, 8), seed=0, step=0).images
    padded = torch.nn.functional.pad(IMAGES.float(), (1, 1, 1, 1), mode="replicate").byte()
    windows = [padded[:, :, top : top + 6, left : left + 8] for top in range(3) for left in range(3)]
    found = torch.stack([(images == window).flatten(1).all(1) for window in windows])
    assert found.any(0).all()
    assert (found.sum(1) > 25).all() and (found.sum(1) < 65).all()


def test_windows_are_cut_at_random_places() -> None:
    images = Augment(random_crop=True)(BATCH, (5, 7), seed=0, step=0).images
    windows = [IMAGES[:, :, top : top + 5, left : left + 7] for top in range(2) for left in range(2)]
    found = torch.stack([(images == window).flatten(1).all(1) for window in windows])
    assert found.any(0).all() and (found.sum(1) > 70).all()


def test_an_image_varies_by_seed_and_step_and_not_by_its_batch() -> None:
    whole = ALL(BATCH, (4, 4), seed=0, step=3).images
    rows = torch.tensor([7, 3, 300])
    some = Batch(IMAGES[rows], rows, rows)
    assert torch.equal(ALL(some, (4, 4), seed=0, step=3).images, whole[rows])
    for other in ({"seed": 1, "step": 3}, {"seed": 0, "step": 4}):
        assert not torch.equal(ALL(BATCH, (4, 4), **other).images, whole)


def test_evaluation_takes_the_middle() -> None:
    cropped = CentreCrop(TensorImages(IMAGES), (2, 4))
    assert cropped.image_shape == (2, 2, 4) and len(cropped) == 400
    assert torch.equal(cropped[[1]].images[0], IMAGES[1, :, 2:4, 2:6])


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="max_shift must be at least 0, got -1"):
        Augment(max_shift=-1)
