"""Fashion-MNIST: damaged files are fetched again, from whichever source gives whole ones."""

import gzip
import logging
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest

import data.files.debian
import data.sources.fashion_mnist
from data import FashionMNIST
from data.files.idx import SHAPES, damaged_files


def write_fashion(raw: Path, level: int = 7) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
        (raw / name).write_bytes(header + bytes([level]) * prod(shape))
    return raw


def unreachable(folder: Path) -> Path:
    raise OSError("no route to host")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.sources.fashion_mnist, "from_mirror", unreachable)
    monkeypatch.setattr(data.sources.fashion_mnist, "from_debian", unreachable)


@pytest.mark.usefixtures("offline")
def test_whole_files_of_fashion_mnist_need_no_network(tmp_path: Path) -> None:
    write_fashion(tmp_path / "FashionMNIST" / "raw")
    source = FashionMNIST(str(tmp_path))
    source.prepare()
    train, test = source.load()
    assert (len(train), len(test), train.image_shape) == (60_000, 10_000, (1, 28, 28))
    assert train[[59_999]].images.unique().tolist() == test[[0]].labels.tolist() == [7]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def of_another_kind(path: Path) -> None:
    path.write_bytes(b"\0" * 8 + path.read_bytes()[8:])


@pytest.mark.parametrize("damage", [cut_short, of_another_kind, Path.unlink])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_file_is_fetched_again_from_the_next_source(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    name: str,
) -> None:
    raw = write_fashion(tmp_path / "FashionMNIST" / "raw")
    damage(raw / name)
    with pytest.raises(FileNotFoundError, match=name):
        FashionMNIST(str(tmp_path)).load()
    monkeypatch.setattr(data.sources.fashion_mnist, "from_mirror", unreachable)
    monkeypatch.setattr(data.sources.fashion_mnist, "from_debian", lambda folder: write_fashion(folder, level=9))
    with caplog.at_level(logging.INFO, logger="data"):
        FashionMNIST(str(tmp_path)).prepare()
    train, test = FashionMNIST(str(tmp_path)).load()
    assert train[[0]].images.unique().tolist() == test[[0]].labels.tolist() == [9]
    assert "Debian's archive" in caplog.text
    assert {path.name for path in raw.parent.iterdir()} == {"raw", "prepare.lock"}


def test_a_source_that_gives_half_a_file_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(folder: Path) -> Path:
        cut_short(write_fashion(folder) / "t10k-images-idx3-ubyte")
        return folder

    monkeypatch.setattr(data.sources.fashion_mnist, "from_mirror", half)
    monkeypatch.setattr(data.sources.fashion_mnist, "from_debian", unreachable)
    with pytest.raises(RuntimeError, match="no valid t10k-images-idx3-ubyte"):
        FashionMNIST(str(tmp_path)).prepare()
    assert not any((tmp_path / "FashionMNIST" / "raw").iterdir())


@pytest.mark.usefixtures("offline")
def test_fashion_mnist_out_of_reach_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as error:
        FashionMNIST(str(tmp_path)).prepare()
    for part in (
        *SHAPES,
        str(tmp_path / "FashionMNIST" / "raw"),
        "mirror failed (no route",
        "archive failed (no route",
    ):
        assert part in str(error.value)


def test_debian_lists_are_fetched_where_the_package_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def run(*command: str, folder: Path) -> None:
        arguments = [word for word in command if not word.startswith("-")]
        steps.append(" ".join(arguments[:2]))
        if len(steps) == 1:
            raise RuntimeError("apt-get says: unable to locate the package")
        if arguments[0] == "dpkg-deb":
            inside = folder / "unpacked" / "usr" / "share" / "datasets" / "fashion-mnist"
            for name in SHAPES:
                packed = (write_fashion(inside) / name).read_bytes()
                (inside / f"{name}.gz").write_bytes(gzip.compress(packed, compresslevel=1))
        if arguments[1] == "download":
            (folder / "fashion.deb").touch()

    monkeypatch.setattr(data.files.debian, "run", run)
    assert damaged_files(data.sources.fashion_mnist.from_debian(tmp_path)) == []
    assert steps == ["apt-get download", "apt-get update", "apt-get download", "dpkg-deb fashion.deb"]


def test_a_failing_command_is_quoted_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^sh says: the reason$"):
        data.files.debian.run("sh", "-c", "echo noise >&2; echo the reason >&2; exit 3", folder=tmp_path)
