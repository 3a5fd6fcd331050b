"""CIFAR-10: an archive that lies in the folder needs no network."""

import pickle
import tarfile
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

import data.sources.cifar10
from data import CIFAR10


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of a few images with the layout, and checksums to match, of the real one."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5((folder / name).read_bytes()).hexdigest()]

    pixels = np.arange(2 * 3072, dtype=np.uint32).reshape(2, 3072).astype(np.uint8)
    train = [write(f"data_batch_{number}", {"data": pixels, "labels": [number, 0]}) for number in range(1, 6)]
    test = [write("test_batch", {"data": pixels[:1] + 1, "labels": [9]})]
    name, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    archive = tmp_path / "root" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": checksum})
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive.read_bytes()).hexdigest())
    return archive


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(dataset: object, url: str, folder: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(data.sources.cifar10, "download", unreachable)


@pytest.mark.usefixtures("no_downloads")
def test_an_archive_of_cifar_needs_no_network(small_cifar: Path) -> None:
    source = CIFAR10(str(small_cifar.parent))
    with pytest.raises(FileNotFoundError, match="prepare"):
        source.load()
    source.prepare()
    small_cifar.unlink()
    source.prepare()
    train, test = source.load()
    assert (len(train), len(test), train.image_shape) == (10, 1, (3, 32, 32))
    assert train[[0]].images.flatten()[:300].tolist() == [value % 256 for value in range(300)]
    assert train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert test[[0]].labels.tolist() == [9]


@pytest.mark.usefixtures("no_downloads")
def test_cifar_out_of_reach_says_what_to_put_where(small_cifar: Path) -> None:
    small_cifar.write_bytes(small_cifar.read_bytes()[:-10])
    with pytest.raises(RuntimeError) as error:
        CIFAR10(str(small_cifar.parent)).prepare()
    for part in (str(small_cifar.parent), "cifar-10-python.tar.gz", "no route to host"):
        assert part in str(error.value)
