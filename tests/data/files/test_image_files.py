"""Files are checked once, and what was found is remembered: never wrongly, and without need of a place to write."""

import errno
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

import data.files.image_files
from data import ImageFolder
from data.files.decode import decode
from data.files.image_files import damaged_images
from tests.support.images import save


def test_a_file_in_place_of_another_is_decoded_again(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in "abcd":
        save(Image.new("L", (2, 2)), photos / f"{name}.png")
    size = (photos / "a.png").stat().st_size
    (photos / "b.png").write_bytes(bytes(size))

    def usable() -> int:
        return sum(map(len, ImageFolder(str(photos), (1, 2, 2), str(tmp_path / "index")).load()))

    assert usable() == 3
    for one, other in (("a", "x"), ("b", "a"), ("x", "b")):
        (photos / f"{one}.png").rename(photos / f"{other}.png")
    (photos / "b.png").unlink()
    assert usable() == 2  # a is damaged now, though of the same size and time as before it was moved


def test_other_versions_of_pillow_decode_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    for version in ("12.0.0", "12.0.0", "13.0.0"):
        monkeypatch.setattr("PIL.__version__", version)
        ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).load()
    assert len([*(tmp_path / "index").glob("*.json")]) == 2


def test_nothing_is_locked_or_written_when_all_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    folder = ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index"))
    folder.prepare()
    monkeypatch.setattr(data.files.image_files, "FileLock", lambda path: pytest.fail("locked"))
    monkeypatch.setattr(data.files.image_files, "_store", lambda index, known: pytest.fail("written"))
    folder.prepare()
    assert sum(map(len, folder.load())) == 2


def test_a_disk_that_fails_ends_the_run_and_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    folder = ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index"))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("data.files.decode.open_image", fail)
        with pytest.raises(OSError, match="Input/output error"):
            folder.prepare()
    assert sum(map(len, folder.load())) == 2


def test_what_a_stopped_check_has_found_is_kept(tmp_path: Path) -> None:
    for number in range(5):
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{number}.png")
    paths = [f"{number}.png" for number in range(5)]
    read = []

    def stop_at(name: str) -> None:
        def decoded(path: Path) -> Tensor:
            if path.name == name:
                raise OSError(errno.EIO, "Input/output error")
            read.append(path.name)
            return decode(path, (1, 2, 2))

        damaged_images(tmp_path / "photos", paths, decoded, "", tmp_path / "index")

    with pytest.raises(OSError, match="Input/output error"):
        stop_at("3.png")
    read.clear()
    stop_at("none")
    assert sorted(read) == ["3.png", "4.png"]


def test_an_image_that_is_gone_is_named_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    train, _ = ImageFolder(str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index")).load()
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"\.png is gone, though it was fit for use .*resume=auto"):
        train[[0]]
