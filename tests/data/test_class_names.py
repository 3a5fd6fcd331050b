"""Classes: from the folders, whatever becomes of the images in them, and named by the sources."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data import Digits, ImageData, ImageFolder, ImageSet, TensorImages
from tests.support.images import levels, save


def pets(root: Path) -> None:
    for level, place in enumerate(["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "zebra/0.png", "zebra/1.png"]):
        save(Image.new("L", (2, 2), level), root / place)


def module(root: Path, **options: Any) -> ImageData:
    source = ImageFolder(str(root), (1, 2, 2), str(root / ".index"))
    images = ImageData(source=source, image_shape=(1, 2, 2), num_val=1, batch_size=1, **options)
    images.prepare_data()
    images.setup()
    return images


def labels_by_level(images: ImageData) -> dict[int, int]:
    parts = (images.train_set, images.val_set, images.test_set)
    return {level: label for part in parts for level, label in zip(levels(part), part.labels.tolist(), strict=True)}


def test_classes_are_the_sorted_names_of_the_folders(tmp_path: Path) -> None:
    pets(tmp_path)
    images = module(tmp_path, num_classes=3)
    assert images.class_names == ("cat", "dog", "zebra")
    assert labels_by_level(images) == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2}


@pytest.mark.parametrize("damage", ["all damaged", "all gone", "no images", "too small"])
def test_labels_do_not_shift_with_what_becomes_of_a_class(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pets(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        if damage == "all damaged":
            path.write_bytes(path.read_bytes()[:40])
        elif damage == "too small":
            Image.new("L", (1, 1)).save(path)
        else:
            path.unlink()
    if damage == "no images":
        (tmp_path / "cat/notes.txt").write_text("moved")
    images = module(tmp_path, num_classes=3)
    assert images.class_names == ("cat", "dog", "zebra")
    assert labels_by_level(images) == {2: 1, 3: 1, 4: 2, 5: 2}
    assert "no image to train on of these classes: cat" in caplog.text


def test_a_class_has_one_label_in_all_splits(tmp_path: Path) -> None:
    accented = {"train": "Caf\u00e9", "test": "Cafe\u0301"}  # as Linux and as macOS write it
    for split, name in accented.items():
        save(Image.new("L", (2, 2), 7), tmp_path / split / name / "0.png")
        save(Image.new("L", (2, 2), 7), tmp_path / split / "Zoo" / "deep/er/0.png")
    train, test = ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index")).load()
    assert train.class_names == test.class_names == ("Caf\u00e9", "Zoo")
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]


def test_a_class_of_one_split_only_is_a_class_of_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place in ("train/Cat/0.png", "train/Cat/1.png", "test/bird/0.png", "val/ant/0.png"):
        save(Image.new("L", (2, 2)), tmp_path / place)
    source = ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index"))
    source.prepare()
    train, test, val = source.load()
    assert train.class_names == ("Cat", "ant", "bird")
    assert [part.labels.tolist() for part in (train, val, test)] == [[0, 0], [1], [2]]
    assert "no image to train on of these classes: ant, bird" in caplog.text


def test_images_without_folders_have_no_classes(tmp_path: Path) -> None:
    for name in "abc":
        save(Image.new("L", (2, 2)), tmp_path / f"{name}.png")
    assert module(tmp_path).class_names is None


@pytest.mark.parametrize("num_classes", [1, 2, 4, 10])
def test_another_number_than_that_of_the_names_is_refused(num_classes: int, tmp_path: Path) -> None:
    pets(tmp_path)
    says = rf"num_classes is {num_classes}, but ImageFolder has 3 classes \(cat, dog, zebra\): set data.num_classes=3"
    with pytest.raises(ValueError, match=says):
        module(tmp_path, num_classes=num_classes)


def test_digits_name_theirs() -> None:
    with pytest.raises(ValueError, match=r"data\.num_classes is 11, but Digits has 10 classes \(0, 1, .*9\): "):
        ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200, num_classes=11).setup()
    images = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200, num_classes=10)
    assert images.class_names is None
    images.setup()
    assert images.class_names == images.train_set.class_names == images.val_set.class_names == tuple("0123456789")


class Named:
    """A source of one's own whose classes have names, with larger images than are asked for."""

    def prepare(self) -> None:
        pass

    def load(self) -> tuple[ImageSet, ImageSet]:
        images = TensorImages(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), torch.arange(10) % 2, class_names=("a", "b"))
        return images, images


def test_a_source_of_ones_own_may_name_its_classes() -> None:
    from data import Augment

    images = ImageData(
        source=Named(), image_shape=(1, 2, 2), num_val=2, batch_size=1, num_classes=2, augment=Augment(random_crop=True)
    )
    images.setup()
    assert images.class_names == images.val_set.class_names == ("a", "b")


def test_the_log_counts_the_files_and_the_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pets(tmp_path / "photos")
    for place in ("notes.txt", "cat/0.txt", "dog/README", ".DS_Store"):
        (tmp_path / "photos" / place).write_text("some words")
    (tmp_path / "photos/zebra/broken.png").write_bytes(b"no image")
    with caplog.at_level(logging.INFO, logger="data"):
        ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).prepare()
    assert (
        "photos: 10 files found, 6 used, 1 left out as damaged or of a wrong size, 3 passed over as no images (2 .txt, "
        "1 without an ending); not looked at: hidden or of the system (1); 3 classes: cat (2), dog (2), zebra (2)"
    ) in caplog.text


def test_a_long_list_of_classes_is_shortened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(14):
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{number:02}/a.png")
    with caplog.at_level(logging.INFO, logger="data"):
        ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).prepare()
    assert "14 classes: 00 (1), " in caplog.text and "09 (1) and 4 more" in caplog.text


def test_names_that_are_no_text_are_said_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = os.fsencode(tmp_path) + b"/ph\xfftos"
    for name in (b"a\xff", b"b\nc"):
        os.makedirs(root + b"/" + name)
        for number in range(3):
            Image.new("L", (2, 2)).save(os.fsdecode(root + b"/" + name + b"/%d.png" % number))
        Path(os.fsdecode(root + b"/" + name + b"/broken\xfe\n.png")).write_bytes(b"no image")
    log = tmp_path / "train.log"
    handler = logging.FileHandler(log, encoding="utf-8")
    logger = logging.getLogger("data")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        source = ImageFolder(os.fsdecode(root), (1, 2, 2), str(tmp_path / "index"))
        source.prepare()
        source.prepare()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        handler.close()
    assert "Logging error" not in capfd.readouterr().err
    lines = log.read_text(encoding="utf-8").splitlines()
    assert sum("broken\\udcfe\\n.png is no image" in line for line in lines) == 4 and len(lines) == 8
    names = source.load()[0].class_names
    assert names == ("a\\udcff", "b\\nc") or names == ("b\\nc", "a\\udcff")
    assert json.loads(json.dumps(names)) and "".join(names).encode()
    with pytest.raises(ValueError, match="one of 2 such files") as error:
        ImageFolder(os.fsdecode(root), (1, 2, 2), str(tmp_path / "index"), on_damaged="raise").load()
    assert str(error.value).encode() and "\n" not in str(error.value)
