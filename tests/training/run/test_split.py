"""A flow is not measured on images that its run had in another split."""

import json
from typing import Any

import pytest

from flows.training.run.provenance import check_split, describe_data

CONFIG: dict[str, Any] = {
    "source": {"_target_": "data.FashionMNIST", "root": "here"},
    "image_shape": [1, 28, 28],
    "num_val": 5000,
    "num_train": None,
    "split_seed": 0,
}
RUN = describe_data(CONFIG)


def changed(**settings: Any) -> str:
    return describe_data({**CONFIG, **settings})


@pytest.mark.parametrize(
    ("split", "settings"),
    [("val", {"num_val": 100}), ("val", {"split_seed": 1}), ("train", {"num_train": 1000}), ("train", {"num_val": 1})],
)
def test_other_splits_of_the_same_source_are_told(split: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"the {split} images of .* were others: give data\.num_val=5000 "):
        check_split(RUN, changed(**settings), split)


@pytest.mark.parametrize(
    ("split", "now"),
    [
        ("val", RUN),
        ("val", changed(num_train=1000)),
        ("val", changed(source={"_target_": "data.FashionMNIST", "root": "there"})),
        ("val", changed(source="data.Digits", num_val=100)),
        ("test", changed(num_val=100)),
        ("all", changed(num_val=100)),
    ],
)
def test_the_same_images_and_those_of_another_source_are_taken(split: str, now: str) -> None:
    check_split(RUN, now, split)


def test_a_folder_elsewhere_is_another_source() -> None:
    def folder(root: str, **settings: Any) -> str:
        return changed(source={"_target_": "data.ImageFolder", "root": root, "index_dir": root}, **settings)

    check_split(folder("here"), folder("there", num_val=1), "val")
    with pytest.raises(ValueError, match=r"data\.num_val=5000 data\.split_seed=0, as in that run"):
        check_split(folder("here"), folder("here", num_val=1), "val")


@pytest.mark.parametrize("told", [None, "", "FashionMNIST", "FashionMNIST {", f"FashionMNIST {json.dumps([1])}"])
def test_a_run_that_does_not_say_how_it_split_is_taken(told: str | None) -> None:
    check_split(told, changed(num_val=1), "val")
