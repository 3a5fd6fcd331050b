"""The data module: fixed disjoint splits, served by rank, and wrong declarations refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from data import ImageData, ImageSet, TensorImages
from tests.support.images import levels


class Numbers:
    """Images that are told apart by their level; the training set's are below 100."""

    def __init__(self, labels: Tensor | None = None) -> None:
        self.labels = labels
        self.loads = 0

    def prepare(self) -> None:
        pass

    def load(self) -> tuple[ImageSet, ImageSet]:
        self.loads += 1
        images = torch.arange(107, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        return TensorImages(images[:100], self.labels), TensorImages(images[100:])


def numbers(**arguments: object) -> ImageData:
    chosen = {"source": Numbers(), "image_shape": [1, 2, 2], "batch_size": 8, "num_val": 30, **arguments}
    images = ImageData(**chosen)
    images.prepare_data()
    images.setup()
    return images


def test_training_and_validation_images_are_disjoint_and_fixed() -> None:
    images = numbers(seed=1)
    train, val = levels(images.train_set), levels(images.val_set)
    assert (len(train), len(val), len(images.test_set)) == (70, 30, 7)
    assert sorted(train + val) == list(range(100))
    assert levels(numbers(seed=2).val_set) == val != levels(numbers(split_seed=1).val_set)


def test_loading_happens_once() -> None:
    images = numbers()
    images.setup("test")
    assert images.source.loads == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loaders_serve_batches_of_their_sets(num_workers: int) -> None:
    images = numbers(num_workers=num_workers, eval_batch_size=16)
    loader = images.train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 70 // 8
    assert {tuple(batch.images.shape) for batch in batches} == {(8, 1, 2, 2)}
    rows = torch.cat([batch.index for batch in batches])
    assert torch.equal(torch.cat([batch.images for batch in batches]), images.train_set[rows.tolist()].images)
    assert [len(batch.index) for batch in images.val_dataloader()] == [16, 14]
    assert next(iter(images.test_dataloader())).images[:, 0, 0, 0].tolist() == list(range(100, 107))


def test_the_loaders_serve_the_share_of_their_rank() -> None:
    images = numbers(eval_batch_size=16)
    whole = next(iter(images.train_dataloader())).index
    initial = images.initial_batch(16)
    images.trainer = SimpleNamespace(global_rank=1, world_size=2)
    assert torch.equal(next(iter(images.train_dataloader())).index, whole[1::2])
    assert next(iter(images.val_dataloader())).index.tolist() == list(range(1, 16, 2))
    assert torch.equal(images.initial_batch(16).index, initial.index)


def test_the_initial_batch_begins_the_first_epoch() -> None:
    images = numbers(seed=5)
    first, second = list(images.train_dataloader())[:2]
    initial = images.initial_batch(16)
    assert torch.equal(initial.index, torch.cat([first.index, second.index]))
    assert torch.equal(initial.images, torch.cat([first.images, second.images]))
    assert sorted(images.initial_batch(1000).index.tolist()) == list(range(70))
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        images.initial_batch(0)


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "num_val", "num_classes", "num_train"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        numbers(**{name: 0})


def test_negative_workers_and_half_a_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="num_workers must be at least 0"):
        numbers(num_workers=-1)
    with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\)"):
        numbers(image_shape=[28, 28])


def test_images_of_another_shape_than_declared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2, 2\), but Numbers has images of \(1, 2, 2\)"):
        numbers(image_shape=[3, 2, 2])


def test_labels_outside_of_the_declared_classes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"data\.num_classes is 10, but Numbers has labels from 0 to 99: set data.num_classes=100"
    ):
        numbers(source=Numbers(torch.arange(100)), num_classes=10)
    with pytest.raises(ValueError, match="100 of 100 images of Numbers have no label"):
        numbers(num_classes=10)


def test_validation_must_leave_a_training_batch() -> None:
    assert len(numbers(num_val=92).train_dataloader()) == 1
    with pytest.raises(ValueError, match="100 training images are too few for a num_val of 93"):
        numbers(num_val=93)


def test_a_few_training_images_are_a_part_of_more_and_leave_validation_as_it_is() -> None:
    whole, more, few = numbers(), numbers(num_train=40), numbers(num_train=10)
    assert (len(more.train_set), len(few.train_set)) == (40, 10)
    assert {*levels(few.train_set)} < {*levels(more.train_set)} < {*levels(whole.train_set)}
    assert levels(few.val_set) == levels(whole.val_set) and levels(few.test_set) == levels(whole.test_set)
    assert levels(few.train_set) != levels(numbers(num_train=10, split_seed=1).train_set)
    assert levels(few.train_set) == levels(numbers(num_train=10, seed=1).train_set)


def test_more_training_images_than_there_are_are_refused() -> None:
    assert len(numbers(num_train=70).train_set) == 70
    with pytest.raises(ValueError, match=r"data\.num_train is 71, but only 70 images are left for training: make it"):
        numbers(num_train=71)
