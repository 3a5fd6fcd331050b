"""Folders of training, validation and test images, as people name them."""

import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data import ImageData, ImageFolder
from tests.support.images import levels, save


def make(root: Path, *places: str) -> dict[str, int]:
    """Write an image of a level of its own at each place; return the levels."""
    for level, place in enumerate(places):
        save(Image.new("L", (2, 2), level), root / place)
    return {place: level for level, place in enumerate(places)}


def source(root: Path, **options: Any) -> ImageFolder:
    return ImageFolder(str(root), (1, 2, 2), str(root / ".index"), **options)


def module(root: Path, num_val: int | None = None, **options: Any) -> ImageData:
    images = ImageData(source=source(root, **options), image_shape=(1, 2, 2), num_val=num_val, batch_size=1)
    images.prepare_data()
    images.setup()
    return images


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("TRAIN", "Valid", "test")],
)
def test_the_usual_names_are_the_splits(train: str, val: str, test: str, tmp_path: Path) -> None:
    make(tmp_path, f"{train}/cat/0.png", f"{train}/dog/1.png", f"{val}/cat/2.png", f"{test}/dog/3.png")
    images = module(tmp_path)
    assert [levels(part) for part in (images.train_set, images.val_set, images.test_set)] == [[0, 1], [2], [3]]
    assert images.train_set.labels.tolist() == [0, 1] and images.test_set.labels.tolist() == [1]
    assert images.class_names == ("cat", "dog")


def test_without_a_test_folder_training_images_are_set_aside_and_validation_is_whole(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/cat/{k}.png" for k in range(20)), *(f"val/dog/{k}.png" for k in range(3)))
    images = module(tmp_path)
    assert levels(images.val_set) == [20, 21, 22] and images.val_set.labels.tolist() == [1, 1, 1]
    assert (len(images.train_set), len(images.test_set)) == (18, 2)
    assert sorted(levels(images.train_set) + levels(images.test_set)) == list(range(20))


def test_without_a_validation_folder_training_images_are_set_aside(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{k}.png" for k in range(20)), *(f"test/{k}.png" for k in range(3)))
    images = module(tmp_path)
    assert (len(images.train_set), len(images.val_set), levels(images.test_set)) == (18, 2, [20, 21, 22])
    assert len(module(tmp_path, num_val=5).val_set) == 5


def test_training_images_alone_are_split(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/{name}/{k}.png" for k in range(10) for name in ("cat", "dog")))
    images = module(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert [len(part) for part in (images.train_set, images.val_set, images.test_set)] == [17, 1, 2]


def test_a_number_of_validation_images_beside_a_folder_of_them_is_said_not_to_apply(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "train/0.png", "train/1.png", "val/2.png", "test/3.png")
    images = module(tmp_path, num_val=7)
    assert (levels(images.train_set), levels(images.val_set)) == ([0, 1], [2])
    assert "data.num_val=7 does not apply: ImageFolder has validation images of its own (1)" in caplog.text
    caplog.clear()
    module(tmp_path)
    assert not caplog.text


def test_splits_of_other_names_are_given(tmp_path: Path) -> None:
    make(tmp_path, "photos/train2017/0.png", "photos/val2017/1.png", "held/2.png")
    images = module(tmp_path, train="photos/train2017", val="photos/val2017", test="held")
    assert [levels(part) for part in (images.train_set, images.val_set, images.test_set)] == [[0], [1], [2]]


def test_folders_named_by_digits_are_found(tmp_path: Path) -> None:
    make(tmp_path, "2017/0.png", "2018/1.png")
    train, test = source(tmp_path, train=2017, test=2018).load()
    assert (levels(train), levels(test)) == ([0], [1])


def test_a_split_that_is_given_takes_its_folder_from_the_others(tmp_path: Path) -> None:
    make(tmp_path, "train/0.png", "train/1.png", "val/2.png")
    images = module(tmp_path, test="val")
    assert levels(images.test_set) == [2] and sorted(levels(images.train_set) + levels(images.val_set)) == [0, 1]


@pytest.mark.parametrize(
    ("places", "options", "says"),
    [
        (["train/0.png", "test/1.png"], {"test": "val"}, "data.source.test is val, .*no such folder.*test, train"),
        (["train/0.png", "training/1.png", "test/2.png"], {}, "2 folders that may be train .*data.source.train=NAME"),
        (["Train/0.png", "train/1.png"], {}, "2 folders that may be train"),
        (["train/0.png", "val/1.png", "validation/2.png"], {}, "may be val .val, validation."),
        (["val/0.png", "test/1.png"], {}, "val and test, but no training images .*data.source.train=NAME"),
        (["cat/0.png", "dog/1.png", "test/2.png"], {}, "has test, but no training images"),
        (["train/0.png", "test/1.png"], {"train": "test", "test": "test"}, "one folder for several splits"),
    ],
)
def test_splits_that_cannot_be_told_are_refused(
    places: list[str], options: dict[str, str], says: str, tmp_path: Path
) -> None:
    make(tmp_path, *places)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        source(tmp_path, **options).load()


def test_a_class_of_trains_is_no_split(tmp_path: Path) -> None:
    make(tmp_path, "bus/0.png", "car/1.png", "train/2.png")
    train, test = source(tmp_path).load()
    assert train.class_names == ("bus", "car", "train") and len(train) + len(test) == 3


@pytest.mark.parametrize(
    "places",
    [["train2017/0.png", "val2017/1.png"], ["cat/train/0.png", "cat/test/1.png"], ["all/train/0.png", "all/val/1.png"]],
)
def test_what_looks_like_splits_and_is_not_taken_as_such_is_named(
    places: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, *places)
    source(tmp_path).prepare()
    assert "look like splits" in caplog.text and "data.source.train=NAME" in caplog.text


def test_what_lies_beside_the_splits_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "train/0.png", "test/1.png", "extra/2.png", "3.png")
    (tmp_path / "labels.csv").write_text("a,b")
    with caplog.at_level(logging.INFO, logger="data"):
        source(tmp_path).prepare()
    assert "not used, as beside the splits: 3.png, extra" in caplog.text
