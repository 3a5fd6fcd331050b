"""Image folders: which images are found, how they are labelled and how they are split."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

import data.sources.image_folder
from data import ImageData, ImageFolder
from data.files.decode import decode
from data.files.image_files import Unfit, damaged_images
from tests.support.images import levels, save


def test_images_are_found_in_name_order_with_classes_from_the_top_folders(tmp_path: Path) -> None:
    places = [
        "train/a.png",
        "train/cat/deep/1.PNG",
        "train/dog/1.png",
        "train/cat/2.Gif",
        "test/ant/1.png",
        "test/dog/1.png",
    ]
    for level, place in enumerate(places):
        save(Image.new("L", (2, 2), level), tmp_path / place)
    for unwanted in ("train/notes.txt", "train/.hidden.png", "train/.cache/a.png"):
        (tmp_path / unwanted).parent.mkdir(exist_ok=True)
        (tmp_path / unwanted).write_text("not an image")
    train, test = ImageFolder(str(tmp_path), [1, 2, 2], str(tmp_path / ".index")).load()
    assert (levels(train), train.labels.tolist()) == ([0, 3, 1, 2], [-1, 1, 1, 2])
    assert (levels(test), test.labels.tolist()) == ([4, 5], [0, 2])
    assert train[[2, 0]].labels.tolist() == [1, -1]
    assert train.image_shape == (1, 2, 2)


def test_a_folder_without_splits_is_split_by_the_seed(tmp_path: Path) -> None:
    for level in range(20):
        save(Image.new("L", (2, 2), level), tmp_path / f"{level:02}.png")

    def split(seed: int) -> tuple[list[int], list[int]]:
        train, test = ImageFolder(
            str(tmp_path), (1, 2, 2), str(tmp_path / ".index"), seed=seed, test_fraction=0.2
        ).load()
        return levels(train), levels(test)

    train, test = split(0)
    assert (len(train), len(test)) == (16, 4)
    assert sorted(train + test) == list(range(20))
    assert split(0) == (train, test) != split(1)


def test_even_a_tiny_folder_gives_both_splits(tmp_path: Path) -> None:
    for level in range(2):
        save(Image.new("L", (2, 2), level), tmp_path / f"{level}.png")
    for fraction in (0.01, 0.99):
        train, test = ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index"), test_fraction=fraction).load()
        assert (len(train), len(test)) == (1, 1)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    for level in range(2):
        save(Image.new("L", (2, 2), level), tmp_path / "elsewhere" / f"{level}.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cats").symlink_to(tmp_path / "elsewhere")
    train, _ = ImageFolder(str(tmp_path / "root"), (1, 2, 2), str(tmp_path / ".index")).load()
    assert train.labels.tolist() == [0]


def test_missing_empty_and_single_image_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        ImageFolder(str(tmp_path / "nowhere"), (1, 2, 2), str(tmp_path / ".index")).prepare()
    with pytest.raises(FileNotFoundError, match=r"no image, that is no \.png \.jpg .* \.pgm file"):
        ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index")).prepare()
    save(Image.new("L", (2, 2)), tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least two"):
        ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index")).prepare()


@pytest.mark.parametrize("image_shape", [(4, 8, 8), (3, 0, 8), (8, 8)])
def test_an_impossible_shape_is_refused(image_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image_shape must be"):
        ImageFolder(".", image_shape, ".")


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_test_fraction_that_leaves_a_split_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ImageFolder(".", (1, 8, 8), ".", test_fraction=fraction)


def test_files_are_decoded_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, read = tmp_path / "photos", []
    for name in "abc":
        save(Image.new("L", (2, 2)), photos / f"{name}.png")

    def counting(path: Path, **options: Any) -> Tensor:
        read.append(path.name)
        return decode(path, **options)

    monkeypatch.setattr(data.sources.image_folder, "decode", counting)

    def prepare(**options: Any) -> list[str]:
        read.clear()
        ImageFolder(str(photos), (1, 2, 2), str(tmp_path / "index"), **options).prepare()
        return sorted(read)

    assert prepare() == ["a.png", "b.png", "c.png"]
    assert prepare() == []
    (photos / "b.png").write_bytes(b"damaged")
    save(Image.new("L", (2, 2)), photos / "d.png")
    assert prepare() == ["b.png", "d.png"]
    assert prepare() == []
    (photos / "c.png").chmod(0o600)
    assert prepare() == ["c.png"]
    assert prepare(enlarge=True) == ["a.png", "b.png", "c.png", "d.png"]
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_processes_that_share_a_folder_decode_its_files_once(tmp_path: Path) -> None:
    for number in range(5):
        save(Image.new("L", (8, 8)), tmp_path / f"images/{number}.png")
    decoded: list[Path] = []

    def read(path: Path) -> Tensor:
        decoded.append(path)
        time.sleep(0.05)
        return decode(path, (1, 8, 8))

    def check(_: int) -> dict[str, Unfit]:
        paths = [f"{number}.png" for number in range(5)]
        return damaged_images(tmp_path / "images", paths, read, "the same", tmp_path / "index")

    with ThreadPoolExecutor(4) as pool:  # locks of their own, as processes have
        assert list(pool.map(check, range(4))) == [{}] * 4
    assert len(decoded) == 5


def test_without_a_place_for_the_index_every_process_checks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    (tmp_path / "file").touch()
    train, test = ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "file")).load()
    assert (len(train), len(test)) == (1, 1)
    assert "checked again in every process" in caplog.text


def test_splits_have_names(tmp_path: Path) -> None:
    save(Image.new("L", (2, 2), 1), tmp_path / "train_2x2/a.png")
    save(Image.new("L", (2, 2), 2), tmp_path / "valid_2x2/a.png")
    names = {"train": "train_2x2", "test": "valid_2x2"}
    train, test = ImageFolder(str(tmp_path), (1, 2, 2), str(tmp_path / ".index"), **names).load()
    assert (levels(train), levels(test)) == ([1], [2])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"a.png": [71, 1, null, true], "b.png": [71, 1, null, true]}',
        '{"paths": ["a.png", "b.png"], "sizes": [71], "times": [1, 2], "unfit": {}}',
        '{"paths": [["a.png"]], "sizes": [71], "times": [1], "unfit": {}}',
        '{"paths": ["a.png"], "sizes": [71], "times": [1], "unfit": {"a.png": 3}}',
    ],
)
def test_a_damaged_index_is_made_anew(content: str, tmp_path: Path) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).prepare()
    (index,) = (tmp_path / "index").glob("*.json")
    whole = index.read_text()
    index.write_text(content)
    train, test = ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).load()
    assert (len(train), len(test)) == (1, 1)
    assert index.read_text() == whole


@pytest.mark.parametrize("crop", [0, -3])
def test_an_empty_crop_is_refused(crop: int) -> None:
    with pytest.raises(ValueError, match=f"crop must be at least 1 pixel, .* got {crop}"):
        ImageFolder(".", (1, 8, 8), ".", crop=crop)


def test_the_log_says_what_was_done_and_how_the_images_are_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("train/a.png", "train/b.png", "train/small.png", "test/a.png"):
        save(Image.new("L", (2, 2) if "small" in place else (8, 8)), tmp_path / place)

    def log(**options: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="data"):
            ImageFolder(str(tmp_path), (1, 4, 4), str(tmp_path / ".index"), **options).prepare()
        return caplog.records[-1].getMessage()

    assert log(crop=6) == (
        f"{tmp_path}: 4 images, 1 left out; the others are cut to their central 6x6, scaled to cover 4x4 (H x W) and "
        "cropped at the centre; 2 to train and 1 to test, by the folders train and test"
    )
    (tmp_path / "test").rename(tmp_path / "val")
    assert log().endswith(
        "1 to train, 1 to validate and 1 to test, by the folders train and val, those to test by the seed"
    )
    (tmp_path / "val").rename(tmp_path / "train/deeper")
    assert log().endswith("2 to train and 1 to test, by the seed, as there is no folder test")


def grouped(root: Path, names: list[str], group: str | None, **options: Any) -> ImageData:
    for level, name in enumerate(names):
        save(Image.new("L", (2, 2), level), root / name)
    source = ImageFolder(str(root), (1, 2, 2), str(root / ".index"), group=group)
    images = ImageData(**{"source": source, "image_shape": (1, 2, 2), "num_val": 2, "batch_size": 2, **options})
    images.prepare_data()
    images.setup()
    return images


PHOTOS = [f"IMG_{number:04}.png" for number in range(20)]
PAIRS = [f"{pair}_{number}.png" for pair in "ab" for number in range(10)]


@pytest.mark.parametrize(
    ("names", "group", "says"),
    [
        (
            PHOTOS,
            "[^_]+",
            r"group=\[\^_\]\+ puts the 20 images of .* too few groups \(1\): .*none to training.*or null",
        ),
        (PHOTOS, "IMG", r"too few groups \(1\)"),
        (PAIRS, "[^_]+", r"10 training images are in few groups \(1\), .*leaves 0, .*group fewer"),
        (PHOTOS, "photo", r"no file has a name that data\.source\.group=photo matches"),
    ],
)
def test_groups_that_leave_nothing_to_train_are_said(names: list[str], group: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        grouped(tmp_path, names, group)


def test_groups_are_found_where_names_differ(tmp_path: Path) -> None:
    images = grouped(tmp_path, [f"{pair}_{number}.png" for pair in "abcdefghij" for number in range(2)], "[^_]+")
    parts = [{level // 2 for level in levels(part)} for part in (images.train_set, images.val_set, images.test_set)]
    assert [len(part) for part in parts] == [8, 1, 1] and sum(map(len, parts)) == len(set.union(*parts))


@pytest.mark.parametrize("group", ["*_", "(", "[^_"])
def test_a_group_that_is_no_expression_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match="group must be a regular expression"):
        ImageFolder(".", (1, 8, 8), ".", group=group)


def test_without_a_number_a_tenth_validates_at_most_500(tmp_path: Path) -> None:
    assert len(grouped(tmp_path / "a", PHOTOS, None, num_val=None).val_set) == 1  # of 18
    assert len(grouped(tmp_path / "b", [f"{k}.png" for k in range(40)], None, num_val=None).val_set) == 3
