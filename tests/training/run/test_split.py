"""A flow is not measured on images that its run had in another split."""

import json
import re
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


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("key", "before", "now", "typed"),
    [
        ("test_fraction", 0.05, 0.1, "data.source.test_fraction=0.05"),
        ("group", "[^_]+", None, "'data.source.group=\"[^_]+\"'"),
        ("seed", 1, 0, "data.source.seed=1"),
        ("enlarge", True, False, "data.source.enlarge=true"),
        ("max_pixels", None, 1000, "data.source.max_pixels=null"),
    ],
)
def test_a_folder_that_splits_in_another_way_is_the_same_source(
    split: str, key: str, before: Any, now: Any, typed: str
) -> None:
    def folder(**settings: Any) -> str:
        return changed(source={"_target_": "data.ImageFolder", "root": "here", **settings})

    check_split(folder(**{key: before}), folder(**{key: before}), split)
    check_split(folder(), folder(**{key: now}), split)  # a run of a version without this setting
    with pytest.raises(ValueError, match=f"were others: give .*{re.escape(typed)}, as in that run"):
        check_split(folder(**{key: before}), folder(**{key: now}), split)


@pytest.mark.parametrize("told", [None, "", "FashionMNIST", "FashionMNIST {", f"FashionMNIST {json.dumps([1])}"])
def test_a_run_that_does_not_say_how_it_split_is_taken(told: str | None) -> None:
    check_split(told, changed(num_val=1), "val")
