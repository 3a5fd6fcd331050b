"""Sets in memory: a batch holds the images, labels and rows asked for."""

import pytest
import torch
from torch import Tensor

from data import Batch, Subset, TensorImages


def test_a_batch_holds_the_images_labels_and_rows_asked_for() -> None:
    images = TensorImages(torch.arange(12, dtype=torch.uint8).view(6, 1, 2, 1), torch.arange(6) * 10)
    batch = images[[4, 1]]
    assert isinstance(batch, Batch)
    assert batch.images.flatten().tolist() == [8, 9, 2, 3]
    assert batch.labels.tolist() == [40, 10]
    assert batch.index.tolist() == [4, 1]
    assert (len(images), images.image_shape) == (6, (1, 2, 1))


def test_images_without_labels_have_the_label_minus_one() -> None:
    assert TensorImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))[[0, 2]].labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 1, 2, 2), None, "uint8"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), None, r"\(3, 2, 2\)"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.long), "one for each image"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3), "labels must be integers"),
    ],
)
def test_tensors_that_are_no_images_are_refused(images: Tensor, labels: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorImages(images, labels)


def test_a_subset_counts_its_own_rows() -> None:
    base = TensorImages(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), torch.arange(6))
    batch = Subset(base, torch.tensor([5, 3, 1]))[[2, 0]]
    assert batch.images.flatten().tolist() == batch.labels.tolist() == [1, 5]
    assert batch.index.tolist() == [2, 0]
