"""scikit-learn's digits: one fixed split."""

import sys

import pytest
import torch

from data import Digits


def test_digits_are_split_once_and_for_all() -> None:
    (train, test), (again, _) = Digits().load(), Digits().load()
    assert (len(train), len(test), train.image_shape) == (1500, 297, (1, 8, 8))
    every = torch.cat([images[list(range(len(images)))].images for images in (train, test)])
    assert every.unique().tolist() == list(range(0, 241, 15))
    assert every.flatten(1).unique(dim=0).shape == (1797, 64)
    assert torch.equal(every[:1500], again[list(range(1500))].images)
    assert train.labels.unique().tolist() == test.labels.unique().tolist() == list(range(10))


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        Digits().load()
