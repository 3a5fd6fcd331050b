"""Every data set reads files of its format, and says what is missing."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import data.celeba
import data.mnist
import data.svhn
from data import MNIST, SVHN, CelebA, DownsampledImageNet, ImageData
from tests import generated
from tests.generated import GENERATORS
from tests.run import CONF


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
    for loader in (module.val_dataloader(), module.test_dataloader(), module.train_eval_dataloader()):
        assert next(iter(loader)).images.shape[1:] == module.image_shape


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    for module in (data.mnist, data.svhn):
        monkeypatch.setattr(module, "download", unreachable)
    monkeypatch.setattr(data.celeba.datasets.CelebA, "download", unreachable)


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


def test_damaged_or_other_npz_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "npz"
    with pytest.raises(FileNotFoundError, match=r"no folder .*npz"):
        DownsampledImageNet(str(folder), 32).prepare()
    generated.imagenet(folder, 32)
    with pytest.raises(ValueError, match=r"train_data_batch_1\.npz holds uint8 \(6, 3072\) .* 64x64"):
        DownsampledImageNet(str(folder), 64).prepare()
    (folder / "train_data_batch_3.npz").write_bytes((folder / "train_data_batch_3.npz").read_bytes()[:999])
    with pytest.raises(ValueError, match=r"train_data_batch_3\.npz is damaged"):
        DownsampledImageNet(str(folder), 32).prepare()
    for name in ("train_data_batch_3.npz", "val_data.npz"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks train_data_batch_3\.npz, val_data\.npz"):
        DownsampledImageNet(str(folder), 32).prepare()
