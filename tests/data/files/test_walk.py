"""The files below a folder: links, loops, and what systems and tools leave there."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data import ImageFolder
from data.files.walk import list_files
from data.image_set import ImageSet
from tests.support.images import levels, save


def write(root: Path, *places: str) -> None:
    for level, place in enumerate(places):
        save(Image.new("L", (2, 2), level), root / place)


def load(root: Path, **options: Any) -> tuple[ImageSet, ...]:
    return ImageFolder(str(root), (1, 2, 2), str(root / ".index"), **options).load()


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def everything(root: Path) -> list[int]:
    return sorted(level for part in load(root) for level in levels(part))


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("photos/loop", "."),
        ("photos/loop", "../photos"),
        ("photos/up", ".."),
        ("photos/root", "/"),
        ("photos/cat/loop", "."),
        ("photos/cat/up", ".."),
        ("photos/aaa", "cat"),
        ("photos/zzz", "dog/"),
        ("photos/cat/dogs", "../dog"),
        ("photos/self", "self"),
    ],
)
def test_each_real_folder_counts_once(place: str, target: str, tmp_path: Path) -> None:
    write(tmp_path, "photos/cat/0.png", "photos/cat/1.png", "photos/dog/2.png", "elsewhere/3.png")
    link(tmp_path / place, target)
    if target == "self":
        with pytest.raises(FileNotFoundError, match="self is a link to nothing"):
            load(tmp_path / "photos")
        return
    assert everything(tmp_path / "photos") == [0, 1, 2]
    assert load(tmp_path / "photos")[0].class_names == ("cat", "dog")


def test_a_folder_outside_that_is_linked_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "store/0.png", "store/1.png", "photos/2.png")
    link(tmp_path / "photos/b", tmp_path / "store")
    link(tmp_path / "photos/a", tmp_path / "store")
    link(tmp_path / "store/back", tmp_path / "photos")
    assert everything(tmp_path / "photos") == [0, 1, 2]
    assert load(tmp_path / "photos")[0].class_names == ("a",)


def test_a_file_counts_once_wherever_it_is_linked(tmp_path: Path) -> None:
    write(tmp_path, "photos/cat/0.png", "photos/dog/1.png", "store/2.png")
    link(tmp_path / "photos/cat/again.png", "0.png")
    link(tmp_path / "photos/aaa/0.png", "../cat/0.png")
    link(tmp_path / "photos/cat/x.png", tmp_path / "store/2.png")
    link(tmp_path / "photos/dog/y.png", tmp_path / "store/2.png")
    assert everything(tmp_path / "photos") == [0, 1, 2]
    listing = list_files(tmp_path / "photos")
    assert listing.files == ["cat/0.png", "cat/x.png", "dog/1.png"]
    assert listing.passed_over["links to what is counted already"] == 3


def test_files_that_are_links_into_a_hidden_store_are_taken(tmp_path: Path) -> None:
    write(tmp_path, "photos/.store/0.png", "photos/.store/1.png")
    for name in "01":
        (tmp_path / f"photos/.store/{name}.png").rename(tmp_path / f"photos/.store/{name}")
        link(tmp_path / f"photos/cat/{name}.png", f"../.store/{name}")
    assert everything(tmp_path / "photos") == [0, 1]


@pytest.mark.parametrize(
    ("place", "target"), [("test/cat", "../train/cat"), ("test/cat/b.png", "../../train/cat/0.png")]
)
def test_an_image_of_two_splits_is_refused(place: str, target: str, tmp_path: Path) -> None:
    write(tmp_path, "train/cat/0.png", "test/dog/1.png")
    link(tmp_path / place, target)
    with pytest.raises(ValueError, match=r"/train and .*/test both hold .*train/cat.*remove the link"):
        load(tmp_path)


def test_one_folder_under_two_names_of_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train/0.png", "val/1.png")
    link(tmp_path / "test", "val")
    with pytest.raises(ValueError, match="both hold"):
        load(tmp_path)


def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "dog/0.png", "dog/1.png")
    link(tmp_path / "cat", "/nowhere/cat")
    with pytest.raises(FileNotFoundError, match="cat is a link to nothing: restore"):
        load(tmp_path)


def test_what_systems_and_tools_leave_is_no_image_and_no_class(tmp_path: Path) -> None:
    left = ["__MACOSX/._a.png", "@eaDir/a.png", ".ipynb_checkpoints/a.png", "lost+found/a.png", "#recycle/a.png"]
    left += [
        "cat/._0.png",
        "cat/@eaDir/0.png",
        "cat/Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "System Volume Information/a",
    ]
    for place in left:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), 99).save(tmp_path / place, "PNG")
    write(tmp_path, "cat/0.png", "cat/1.png")
    assert everything(tmp_path) == [0, 1] and load(tmp_path)[0].class_names == ("cat",)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "0.png", "1.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert everything(tmp_path) == [0, 1]


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    with pytest.raises(NotADirectoryError, match=r"photos\.zip is a file: unpack it"):
        load(tmp_path / "photos.zip")
