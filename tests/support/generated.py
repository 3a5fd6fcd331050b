"""Writes small files of the right format for each data set into a data root."""

import pickle
import struct
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from data.files.idx import SHAPES
from data.sources.celeba import MD5S


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx_files(raw: Path) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        content = pixels(*shape) if len(shape) == 3 else pixels(*shape) % 10
        (raw / name).write_bytes(struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape) + content.tobytes())


def mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files(root / "MNIST/raw")


def fashion_mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files(root / "FashionMNIST/raw")


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5((folder / name).read_bytes()).hexdigest()]

    batch = {"data": pixels(8, 3072), "labels": list(range(8))}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write(f"data_batch_{k}", batch) for k in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", batch)])
    name, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": checksum})


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    (root / "SVHN").mkdir(parents=True)
    splits = {}
    for split, count in {"train": 40, "test": 8, "extra": 16}.items():
        path = root / f"SVHN/{split}_32x32.mat"
        savemat(path, {"X": pixels(32, 32, 3, count), "y": np.arange(count)[:, None] % 10 + 1})
        splits[split] = ["nowhere", path.name, md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)


def jpegs(folder: Path, count: int, width: int, height: int) -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.fromarray(pixels(height, width, 3)).save(folder / f"{number:06}.jpg")


def celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs(root / "celeba/img_align_celeba", 40, 178, 218)
    lines = [f"{number:06}.jpg {0 if number <= 24 else 1 if number <= 32 else 2}" for number in range(1, 41)]
    partition = root / "celeba/list_eval_partition.txt"
    partition.write_text("\n".join(lines) + "\n")
    monkeypatch.setitem(MD5S, partition.name, md5(partition.read_bytes()).hexdigest())


def celeba_hq(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs(root / "celeba_hq", 20, 256, 256)


def lsun(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, count in {"train": 20, "val": 4}.items():
        jpegs(root / f"lsun/bedroom/{split}", count, 128, 96)


def imagenet(root: Path, size: int, compressed: bool = False) -> None:
    root.mkdir(parents=True)
    for name in [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]:
        save = np.savez_compressed if compressed else np.savez
        save(root / name, data=pixels(6, 3 * size * size), labels=np.arange(1, 7))


def imagenet32(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet(root / "imagenet32", 32)


def imagenet64(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet(root / "imagenet64", 64)


GENERATORS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    maker.__name__: maker
    for maker in (mnist, fashion_mnist, cifar10, svhn, celeba, celeba_hq, lsun, imagenet32, imagenet64)
}
"""Functions that write the files of each data set, by the names of `conf/data/`."""
