"""Every data set reads files of its format, and says what is missing."""

import logging
import os
import pickle
import shutil
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

import data.files.idx
import data.sources.celeba
import data.sources.cifar10
import data.sources.downsampled_imagenet
import data.sources.mnist
import data.sources.svhn
from data import CIFAR10, MNIST, SVHN, CelebA, DownsampledImageNet, FashionMNIST, ImageData
from tests.support import generated
from tests.support.generated import GENERATORS
from tests.support.run import CONF

SOURCES = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10, "svhn": SVHN, "celeba": CelebA}


@pytest.mark.parametrize("name", GENERATORS)
def test_it_gives_batches_of_the_declared_shape(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GENERATORS[name](tmp_path, monkeypatch)
    with initialize_config_dir(CONF, version_base="1.3"):
        overrides = [f"data={name}", f"data_root={tmp_path}", "run_dir=.", "data.num_val=4", "data.batch_size=4"]
        cfg = compose("train", [*overrides, "data.num_workers=0"])
    module: ImageData = instantiate(cfg.data)
    module.prepare_data()
    module.setup()
    batch = module.initial_batch(4)
    assert batch.images.shape == (4, *module.image_shape) and len(batch.images.unique()) > 100
    for loader in (module.val_dataloader(), module.test_dataloader(), module.batches(module.sets["train"])):
        assert next(iter(loader)).images.shape[1:] == module.image_shape


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    for module in (data.sources.mnist, data.sources.svhn):
        monkeypatch.setattr(module, "download", unreachable)
    monkeypatch.setattr(data.sources.celeba.datasets.CelebA, "download", unreachable)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (MNIST, ["MNIST/raw", "train-images-idx3-ubyte"]),
        (SVHN, ["SVHN", "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"]),
        (CelebA, ["celeba", "img_align_celeba.zip", "list_eval_partition.txt"]),
    ],
)
def test_a_set_out_of_reach_says_what_to_put_where(source: type, says: list[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="prepare"):
        source(str(tmp_path)).load()
    with pytest.raises(RuntimeError, match="is out of reach") as error:
        source(str(tmp_path)).prepare()
    for part in (*says, "no route to host", str(tmp_path), "by hand"):
        assert part in str(error.value)


@pytest.mark.usefixtures("offline")
def test_half_finished_files_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source, file in (
        ("mnist", MNIST, "MNIST/raw/t10k-images-idx3-ubyte"),
        ("svhn", SVHN, "SVHN/test_32x32.mat"),
    ):
        GENERATORS[name](tmp_path, monkeypatch)
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-1])
        with pytest.raises(RuntimeError, match="out of reach"):
            source(str(tmp_path)).prepare()


def test_svhn_can_take_the_extra_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated.svhn(tmp_path, monkeypatch)
    sizes = [len(SVHN(str(tmp_path), extra=extra).load()[0]) for extra in (False, True)]
    assert sizes == [40, 56]
    images = SVHN(str(tmp_path)).load()[0][[0]].images
    assert (images[0].numpy() == generated.pixels(32, 32, 3, 40)[..., 0].transpose(2, 0, 1)).all()


def test_celeba_splits_by_the_official_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated.celeba(tmp_path, monkeypatch)
    train, test = CelebA(str(tmp_path)).load()
    assert (len(train), len(test), train.image_shape) == (32, 8, (3, 64, 64))
    (tmp_path / "celeba/img_align_celeba/000007.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 images, such as img_align_celeba/000007\.jpg"):
        CelebA(str(tmp_path)).load()
    partition = tmp_path / "celeba/list_eval_partition.txt"
    partition.write_text("".join(partition.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FileNotFoundError, match=r"lacks a whole list_eval_partition\.txt"):
        CelebA(str(tmp_path)).load()


def test_celeba_cuts_out_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated.celeba(tmp_path, monkeypatch)
    framed = np.zeros((218, 178, 3), dtype=np.uint8)
    framed[35:183, 15:163] = 200
    Image.fromarray(framed).save(tmp_path / "celeba/img_align_celeba/000001.jpg", quality=100)
    image = CelebA(str(tmp_path)).load()[0][[0]].images
    assert image[..., 1:-1, 1:-1].float().sub(200).abs().max() <= 4
    for arguments in ({"image_shape": (2, 64, 64)}, {"crop": 0}):
        with pytest.raises(ValueError, match="must be"):
            CelebA(str(tmp_path), **arguments)


@pytest.mark.usefixtures("offline")
def test_an_archive_of_celeba_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated.celeba(tmp_path, monkeypatch)
    folder = tmp_path / "celeba"
    archive = Path(shutil.make_archive(str(folder / "img_align_celeba"), "zip", folder, "img_align_celeba"))
    monkeypatch.setitem(data.sources.celeba.MD5S, archive.name, md5(archive.read_bytes()).hexdigest())
    whole = CelebA(str(tmp_path)).load()[0][[0, 31]].images
    (folder / "img_align_celeba/000001.jpg").unlink()
    CelebA(str(tmp_path)).prepare()
    assert torch.equal(CelebA(str(tmp_path)).load()[0][[0, 31]].images, whole)
    shutil.rmtree(folder / "img_align_celeba")
    CelebA(str(tmp_path)).prepare()
    assert torch.equal(CelebA(str(tmp_path)).load()[0][[0, 31]].images, whole)


@pytest.mark.parametrize("archive", [None, b"half of it"])
def test_half_of_celeba_that_torchvision_takes_for_whole_is_refused(
    archive: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated.celeba(tmp_path, monkeypatch)
    monkeypatch.setattr(data.sources.celeba.datasets.CelebA, "__init__", lambda self, root, download: None)
    (tmp_path / "celeba/img_align_celeba/000007.jpg").unlink()
    if archive is not None:
        (tmp_path / "celeba/img_align_celeba.zip").write_bytes(archive)
    with pytest.raises(RuntimeError, match=r"000007\.jpg.* put img_align_celeba\.zip .* by hand"):
        CelebA(str(tmp_path)).prepare()


def test_svhn_without_scipy_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.sources.svhn, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install scipy"):
        SVHN(str(tmp_path)).prepare()


def test_a_complaint_of_many_lines_becomes_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error downloading:\nTried a mirror, got:\nnothing")

    monkeypatch.setattr(data.sources.mnist, "download", fail)
    monkeypatch.setattr(data.sources.celeba.datasets.CelebA, "download", fail)
    for source in (MNIST, CelebA):
        with pytest.raises(RuntimeError, match="got: nothing") as error:
            source(str(tmp_path)).prepare()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_imagenet_is_mapped_row_by_row_in_any_process(compressed: bool, tmp_path: Path) -> None:
    generated.imagenet(tmp_path / "npz", 32, compressed)
    source = DownsampledImageNet(str(tmp_path / "npz"), 32)
    source.prepare()
    train, test = source.load()
    assert (len(train), len(test)) == (60, 6)
    expected = generated.pixels(6, 3072)
    rows = [0, 5, 6, 59, 31]
    for images in (train, pickle.loads(pickle.dumps(train))):
        batch = images[rows]
        assert (batch.images.flatten(1).numpy() == expected[np.array(rows) % 6]).all()
        assert batch.labels.tolist() == [row % 6 for row in rows]
    assert len(pickle.dumps(train)) < 10_000
    assert (tmp_path / "npz/unpacked").exists() == compressed


def test_an_npz_file_is_unpacked_again_by_its_content_whatever_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "npz"
    generated.imagenet(folder, 32, compressed=True)
    DownsampledImageNet(str(folder), 32).prepare()
    with monkeypatch.context() as read_only:
        read_only.setattr(data.sources.downsampled_imagenet, "FileLock", lambda path: pytest.fail("locked"))
        read_only.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("made"))
        DownsampledImageNet(str(folder), 32).prepare()
    other = np.full((6, 3072), 7, np.uint8)
    np.savez_compressed(folder / "train_data_batch_1", data=other, labels=np.arange(1, 7))
    os.utime(folder / "train_data_batch_1.npz", (0, 0))  # as of an older copy
    DownsampledImageNet(str(folder), 32).prepare()
    train, _ = DownsampledImageNet(str(folder), 32).load()
    assert train[[0, 5]].images.unique().tolist() == [7]
    assert len([*(folder / "unpacked").glob("*.npy")]) == 11


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn", "celeba"])
def test_what_is_there_is_neither_locked_nor_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GENERATORS[name](tmp_path, monkeypatch)
    source = SOURCES[name](str(tmp_path))
    for module in (data.files.idx, data.sources.cifar10, data.sources.svhn, data.sources.celeba):
        monkeypatch.setattr(module, "FileLock", lambda path: pytest.fail("locked"))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("made"))
    source.prepare()
    assert all(map(len, source.load()))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn"])
def test_sources_name_their_classes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GENERATORS[name](tmp_path, monkeypatch)
    for images in SOURCES[name](str(tmp_path)).load():
        assert images.class_names is not None and len(images.class_names) == 10


def test_damaged_or_other_npz_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "npz"
    with pytest.raises(FileNotFoundError, match=r"no folder .*npz"):
        DownsampledImageNet(str(folder), 32).prepare()
    generated.imagenet(folder, 32)
    with pytest.raises(ValueError, match=r"1\.npz holds 32x32 images, not 64x64: use data=imagenet32"):
        DownsampledImageNet(str(folder), 64).prepare()
    (folder / "train_data_batch_3.npz").write_bytes((folder / "train_data_batch_3.npz").read_bytes()[:999])
    with pytest.raises(ValueError, match=r"train_data_batch_3\.npz is damaged"):
        DownsampledImageNet(str(folder), 32).prepare()
    for name in ("train_data_batch_3.npz", "val_data.npz"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks train_data_batch_3\.npz, val_data\.npz"):
        DownsampledImageNet(str(folder), 32).prepare()


def test_any_number_of_npz_batches_is_taken_in_the_order_of_their_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "npz"
    generated.imagenet(folder, 32)
    for number in range(1, 12):
        np.savez(folder / f"train_data_batch_{number}", data=np.full((1, 3072), number, np.uint8), labels=[number])
    (folder / "train_data_batch_1 (copy).npz").touch()
    with caplog.at_level(logging.INFO, logger="data"):
        DownsampledImageNet(str(folder), 32).prepare()
    train, _ = DownsampledImageNet(str(folder), 32).load()
    assert train[list(range(11))].images[:, 0, 0, 0].tolist() == list(range(1, 12))
    assert "11 images in 11 files to train, 6 to test" in caplog.text
    for number in range(3, 12):
        (folder / f"train_data_batch_{number}.npz").unlink()
    assert len(DownsampledImageNet(str(folder), 32).load()[0]) == 2
    for number in (1, 2):
        (folder / f"train_data_batch_{number}.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks train_data_batch_1\.npz: put"):
        DownsampledImageNet(str(folder), 32).load()


def test_npz_files_are_read_in_either_memory_order(tmp_path: Path) -> None:
    generated.imagenet(tmp_path / "npz", 32)
    pixels = generated.pixels(6, 3072)
    np.savez(tmp_path / "npz/train_data_batch_1", data=np.asfortranarray(pixels), labels=np.arange(1, 7))
    train, _ = DownsampledImageNet(str(tmp_path / "npz"), 32).load()
    assert (train[[4, 1]].images.flatten(1).numpy() == pixels[[4, 1]]).all()


def test_a_compressed_npz_file_damaged_inside_is_named_and_not_kept(tmp_path: Path) -> None:
    generated.imagenet(tmp_path / "npz", 32, compressed=True)
    path = tmp_path / "npz/train_data_batch_2.npz"
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train_data_batch_2\.npz is damaged .*fetch it again"):
        DownsampledImageNet(str(tmp_path / "npz"), 32).prepare()
    left = (tmp_path / "npz/unpacked").glob("train_data_batch_2.*")
    assert {path.suffix for path in left} <= {".lock"}
