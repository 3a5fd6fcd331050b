import gzip
import logging
import pickle
import socket
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from hashlib import md5
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

import data.cifar10
import data.download
import data.fashion_mnist
from data import CIFAR10, Batch, Digits, FashionMNIST, ImageData, ImageFolder, ImageSet, Subset, TensorImages
from data.download import download
from data.fashion_mnist import SHAPES
from data.image_folder import decode


def save(image: Image.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def levels(images: ImageSet) -> list[int]:
    return [int(level) for level in images[list(range(len(images)))].images[:, 0, 0, 0]]


# Sets in memory


def test_a_batch_holds_the_images_labels_and_rows_asked_for() -> None:
    images = TensorImages(torch.arange(12, dtype=torch.uint8).view(6, 1, 2, 1), torch.arange(6) * 10)
    batch = images[[4, 1]]
    assert isinstance(batch, Batch)
    assert batch.images.flatten().tolist() == [8, 9, 2, 3]
    assert batch.labels.tolist() == [40, 10]
    assert batch.index.tolist() == [4, 1]
    assert (len(images), images.image_shape) == (6, (1, 2, 1))


def test_images_without_labels_have_the_label_minus_one() -> None:
    assert TensorImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))[[0, 2]].labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 1, 2, 2), None, "uint8"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), None, r"\(3, 2, 2\)"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.long), "one for each image"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3), "labels must be integers"),
    ],
)
def test_tensors_that_are_no_images_are_refused(images: Tensor, labels: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorImages(images, labels)


def test_a_subset_counts_its_own_rows() -> None:
    base = TensorImages(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), torch.arange(6))
    batch = Subset(base, torch.tensor([5, 3, 1]))[[2, 0]]
    assert batch.images.flatten().tolist() == batch.labels.tolist() == [1, 5]
    assert batch.index.tolist() == [2, 0]


# Digits


def test_digits_are_split_once_and_for_all() -> None:
    (train, test), (again, _) = Digits().load(), Digits().load()
    assert (len(train), len(test), train.image_shape) == (1500, 297, (1, 8, 8))
    every = torch.cat([images[list(range(len(images)))].images for images in (train, test)])
    assert every.unique().tolist() == list(range(0, 241, 15))
    assert every.flatten(1).unique(dim=0).shape == (1797, 64)
    assert torch.equal(every[:1500], again[list(range(1500))].images)
    assert train.labels.unique().tolist() == test.labels.unique().tolist() == list(range(10))


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        Digits().load()


# Fashion-MNIST


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
    monkeypatch.setattr(data.fashion_mnist, "from_mirror", unreachable)
    monkeypatch.setattr(data.fashion_mnist, "from_debian", unreachable)


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
    monkeypatch.setattr(data.fashion_mnist, "from_mirror", unreachable)
    monkeypatch.setattr(data.fashion_mnist, "from_debian", lambda folder: write_fashion(folder, level=9))
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

    monkeypatch.setattr(data.fashion_mnist, "from_mirror", half)
    monkeypatch.setattr(data.fashion_mnist, "from_debian", unreachable)
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

    monkeypatch.setattr(data.fashion_mnist, "run", run)
    assert data.fashion_mnist.damaged_files(data.fashion_mnist.from_debian(tmp_path)) == []
    assert steps == ["apt-get download", "apt-get update", "apt-get download", "dpkg-deb fashion.deb"]


def test_a_failing_command_is_quoted_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^sh says: the reason$"):
        data.fashion_mnist.run("sh", "-c", "echo noise >&2; echo the reason >&2; exit 3", folder=tmp_path)


# Downloads


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_mirror_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: socket.socket
) -> None:
    monkeypatch.setattr(data.download, "PROBE_SECONDS", 0.2)
    asked = []
    with pytest.raises(TimeoutError):
        download(lambda *_, **__: asked.append(True), f"http://127.0.0.1:{listening.getsockname()[1]}/", tmp_path)
    assert not asked


def test_a_download_cannot_stall_and_leaves_the_timeout_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def dataset(folder: Path, download: bool) -> None:
        limits.append(socket.getdefaulttimeout())
        raise OSError("connection lost")

    (tmp_path / "probe").touch()
    with pytest.raises(OSError, match="connection lost"):
        download(dataset, (tmp_path / "probe").as_uri(), tmp_path)
    assert limits == [data.download.STALL_SECONDS]
    assert socket.getdefaulttimeout() is None


# CIFAR-10


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
    monkeypatch.setattr(data.cifar10, "download", lambda dataset, url, folder: unreachable(folder))


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


# Image folders: decoding


def pixels(mode: str, *values: object) -> Image.Image:
    """An image of one row."""
    image = Image.new(mode, (len(values), 1))
    for column, value in enumerate(values):
        image.putpixel((column, 0), value)
    return image


def palette() -> Image.Image:
    image = pixels("P", 0, 1, 2)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (100, 100, 100)
BLUE = Image.new("RGB", (1, 1), (0, 0, 255))
COLOURS = {
    "L.png": (pixels("L", 0, 100, 255), {}, [BLACK, GREY, WHITE]),
    "LA.png": (pixels("LA", (100, 255), (0, 128), (100, 0)), {}, [GREY, (127, 127, 127), WHITE]),
    "P.png": (palette(), {}, [(10, 20, 30), (40, 50, 60), (70, 80, 90)]),
    "P-one-transparent.png": (palette(), {"transparency": 1}, [(10, 20, 30), WHITE, (70, 80, 90)]),
    "P-alpha.png": (palette(), {"transparency": bytes([0, 255, 255])}, [WHITE, (40, 50, 60), (70, 80, 90)]),
    "P.gif": (palette(), {"transparency": 2}, [(10, 20, 30), (40, 50, 60), WHITE]),
    "RGB.bmp": (pixels("RGB", (1, 2, 3), (200, 0, 9)), {}, [(1, 2, 3), (200, 0, 9)]),
    "RGB.ppm": (pixels("RGB", (1, 2, 3)), {}, [(1, 2, 3)]),
    "RGB-transparent.png": (pixels("RGB", (1, 2, 3), (4, 5, 6)), {"transparency": (4, 5, 6)}, [(1, 2, 3), WHITE]),
    "RGBA.png": (pixels("RGBA", (9, 8, 7, 255), (9, 8, 7, 0)), {}, [(9, 8, 7), WHITE]),
    "RGBA.webp": (pixels("RGBA", (9, 8, 7, 255), (9, 8, 7, 0)), {"lossless": True}, [(9, 8, 7), WHITE]),
    "CMYK.tif": (pixels("CMYK", (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)), {}, [WHITE, (0, 255, 255), BLACK]),
    "CMYK.jpg": (pixels("CMYK", (0, 0, 0, 0)), {"quality": 100}, [WHITE]),
    "1.png": (pixels("1", 0, 255, 0), {}, [BLACK, WHITE, BLACK]),
    "I;16.png": (pixels("I;16", 0, 128, 129, 25700, 65535), {}, [BLACK, BLACK, (1, 1, 1), GREY, WHITE]),
    "I;16.tiff": (pixels("I;16", 25700, 65535), {}, [GREY, WHITE]),
    "I;16.pgm": (pixels("I;16", 25700, 65535), {}, [GREY, WHITE]),
    "animated.gif": (pixels("RGB", (255, 0, 0)), {"save_all": True, "append_images": [BLUE]}, [(255, 0, 0)]),
    "animated.webp": (
        pixels("RGB", (255, 0, 0)),
        {"save_all": True, "append_images": [BLUE], "lossless": True},
        [(255, 0, 0)],
    ),
    "upside-down.png": (pixels("L", 0, 100, 255), {"exif": rotated()}, [WHITE, GREY, BLACK]),
    "upside-down.webp": (pixels("L", 0, 100), {"exif": rotated(), "lossless": True}, [GREY, BLACK]),
}


@pytest.mark.parametrize("name", COLOURS)
def test_every_kind_of_image_becomes_8_bit_colour_on_white(tmp_path: Path, name: str) -> None:
    image, options, expected = COLOURS[name]
    image.save(tmp_path / name, **options)
    decoded = decode(tmp_path / name, (3, 1, len(expected)))
    assert decoded.dtype == torch.uint8
    assert [tuple(pixel) for pixel in decoded[:, 0].T.tolist()] == expected


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("L.png", pixels("L", 0, 100), [0, 100]),
        ("LA.png", pixels("LA", (100, 255), (100, 0)), [100, 255]),
        ("1.png", pixels("1", 0, 255), [0, 255]),
        ("I;16.png", pixels("I;16", 25700, 65535), [100, 255]),
        ("RGB.png", pixels("RGB", (255, 0, 0), (0, 255, 0), (0, 0, 255)), [76, 150, 29]),
        ("RGBA.png", pixels("RGBA", (50, 50, 50, 255), (50, 50, 50, 0)), [50, 255]),
    ],
)
def test_every_kind_of_image_becomes_8_bit_grey(
    tmp_path: Path, name: str, image: Image.Image, expected: list[int]
) -> None:
    image.save(tmp_path / name)
    assert decode(tmp_path / name, (1, 1, len(expected))).tolist() == [[expected]]


def test_exif_turns_the_shape_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(pixels("L", 10, 20), tmp_path / "a.png", exif=exif)
    assert decode(tmp_path / "a.png", (1, 2, 1)).flatten().tolist() == [10, 20]


def test_the_middle_is_cropped_at_the_scale_that_covers(tmp_path: Path) -> None:
    wide = np.zeros((4, 12), dtype=np.uint8)
    wide[:, 4:8] = 200
    save(Image.fromarray(wide), tmp_path / "wide.png")
    save(Image.fromarray(wide.T.copy()), tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        assert decode(tmp_path / name, (1, 4, 4)).unique().tolist() == [200]
        assert decode(tmp_path / name, (1, 2, 2)).min() > 150


def test_shrinking_averages_and_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    save(Image.fromarray(stripes), tmp_path / "stripes.png")
    assert (decode(tmp_path / "stripes.png", (1, 4, 4)).float() - 127.5).abs().max() <= 6


def test_small_images_grow(tmp_path: Path) -> None:
    save(Image.new("RGB", (3, 2), (5, 6, 7)), tmp_path / "small.png")
    decoded = decode(tmp_path / "small.png", (3, 16, 8))
    assert decoded.shape == (3, 16, 8)
    assert decoded.flatten(1).unique(dim=1).flatten().tolist() == [5, 6, 7]


def no_image(path: Path) -> None:
    path.write_text("this is no image")


def half_an_image(path: Path) -> None:
    Image.effect_noise((32, 32), 50).save(path)
    path.write_bytes(path.read_bytes()[:600])


def floats(path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(path, format="TIFF")


def beyond_16_bits(path: Path) -> None:
    Image.new("I", (2, 2), 70_000).save(path, format="TIFF")


@pytest.mark.parametrize("write", [no_image, half_an_image, floats, beyond_16_bits])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path, write: Callable[[Path], None]) -> None:
    save(Image.new("L", (2, 2)), tmp_path / "a.png")
    write(tmp_path / "broken.png")
    train, test = ImageFolder(str(tmp_path), (1, 2, 2), test_fraction=0.5).load()
    with pytest.raises(ValueError, match=r"broken\.png cannot be decoded"):
        _ = train[[0]], test[[0]]


# Image folders: listing and splitting


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
    train, test = ImageFolder(str(tmp_path), [1, 2, 2]).load()
    assert (levels(train), train.labels.tolist()) == ([0, 3, 1, 2], [-1, 1, 1, 2])
    assert (levels(test), test.labels.tolist()) == ([4, 5], [0, 2])
    assert train[[2, 0]].labels.tolist() == [1, -1]
    assert train.image_shape == (1, 2, 2)


def test_a_folder_without_splits_is_split_by_the_seed(tmp_path: Path) -> None:
    for level in range(20):
        save(Image.new("L", (2, 2), level), tmp_path / f"{level:02}.png")

    def split(seed: int) -> tuple[list[int], list[int]]:
        train, test = ImageFolder(str(tmp_path), (1, 2, 2), seed=seed, test_fraction=0.2).load()
        return levels(train), levels(test)

    train, test = split(0)
    assert (len(train), len(test)) == (16, 4)
    assert sorted(train + test) == list(range(20))
    assert split(0) == (train, test) != split(1)


def test_even_a_tiny_folder_gives_both_splits(tmp_path: Path) -> None:
    for level in range(2):
        save(Image.new("L", (2, 2), level), tmp_path / f"{level}.png")
    for fraction in (0.01, 0.99):
        train, test = ImageFolder(str(tmp_path), (1, 2, 2), test_fraction=fraction).load()
        assert (len(train), len(test)) == (1, 1)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    for level in range(2):
        save(Image.new("L", (2, 2), level), tmp_path / "elsewhere" / f"{level}.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cats").symlink_to(tmp_path / "elsewhere")
    train, _ = ImageFolder(str(tmp_path / "root"), (1, 2, 2)).load()
    assert train.labels.tolist() == [0]


def test_missing_empty_and_single_image_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        ImageFolder(str(tmp_path / "nowhere"), (1, 2, 2)).prepare()
    with pytest.raises(FileNotFoundError, match=r"no image, that is no \.png \.jpg .* \.pgm file"):
        ImageFolder(str(tmp_path), (1, 2, 2)).prepare()
    save(Image.new("L", (2, 2)), tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least two"):
        ImageFolder(str(tmp_path), (1, 2, 2)).prepare()


@pytest.mark.parametrize("image_shape", [(4, 8, 8), (3, 0, 8), (8, 8)])
def test_an_impossible_shape_is_refused(image_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image_shape must be"):
        ImageFolder(".", image_shape)


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_test_fraction_that_leaves_a_split_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ImageFolder(".", (1, 8, 8), test_fraction=fraction)


# The data module


class Numbers:
    """Images that are told apart by their level; the training set's are below 100."""

    def __init__(self, labels: Tensor | None = None) -> None:
        self.labels = labels
        self.loads = 0

    def prepare(self) -> None:
        pass

    def load(self) -> tuple[ImageSet, ImageSet]:
        self.loads += 1
        images = torch.arange(107, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        return TensorImages(images[:100], self.labels), TensorImages(images[100:])


def numbers(**arguments: object) -> ImageData:
    chosen = {"source": Numbers(), "image_shape": [1, 2, 2], "batch_size": 8, "num_val": 30, **arguments}
    images = ImageData(**chosen)
    images.prepare_data()
    images.setup()
    return images


def test_training_and_validation_images_are_disjoint_and_fixed() -> None:
    images = numbers(seed=1)
    train, val = levels(images.train_set), levels(images.val_set)
    assert (len(train), len(val), len(images.test_set)) == (70, 30, 7)
    assert sorted(train + val) == list(range(100))
    assert levels(numbers(seed=2).val_set) == val != levels(numbers(split_seed=1).val_set)


def test_loading_happens_once() -> None:
    images = numbers()
    images.setup("test")
    assert images.source.loads == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loaders_serve_batches_of_their_sets(num_workers: int) -> None:
    images = numbers(num_workers=num_workers, eval_batch_size=16)
    loader = images.train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 70 // 8
    assert {tuple(batch.images.shape) for batch in batches} == {(8, 1, 2, 2)}
    rows = torch.cat([batch.index for batch in batches])
    assert torch.equal(torch.cat([batch.images for batch in batches]), images.train_set[rows.tolist()].images)
    assert [len(batch.index) for batch in images.val_dataloader()] == [16, 14]
    assert next(iter(images.test_dataloader())).images[:, 0, 0, 0].tolist() == list(range(100, 107))


def test_the_loaders_serve_the_share_of_their_rank() -> None:
    images = numbers(eval_batch_size=16)
    whole = next(iter(images.train_dataloader())).index
    initial = images.initial_batch(16)
    images.trainer = SimpleNamespace(global_rank=1, world_size=2)
    assert torch.equal(next(iter(images.train_dataloader())).index, whole[1::2])
    assert next(iter(images.val_dataloader())).index.tolist() == list(range(1, 16, 2))
    assert torch.equal(images.initial_batch(16).index, initial.index)


def test_the_initial_batch_begins_the_first_epoch() -> None:
    images = numbers(seed=5)
    first, second = list(images.train_dataloader())[:2]
    initial = images.initial_batch(16)
    assert torch.equal(initial.index, torch.cat([first.index, second.index]))
    assert torch.equal(initial.images, torch.cat([first.images, second.images]))
    for size in (0, 71):
        with pytest.raises(ValueError, match="between 1 and 70"):
            images.initial_batch(size)


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "num_val", "num_classes"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        numbers(**{name: 0})


def test_negative_workers_and_half_a_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="num_workers must be at least 0"):
        numbers(num_workers=-1)
    with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\)"):
        numbers(image_shape=[28, 28])


def test_images_of_another_shape_than_declared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2, 2\), but Numbers has images of \(1, 2, 2\)"):
        numbers(image_shape=[3, 2, 2])


def test_labels_outside_of_the_declared_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="declared as 10, but Numbers has labels from 0 to 99"):
        numbers(source=Numbers(torch.arange(100)), num_classes=10)
    with pytest.raises(ValueError, match="from -1 to -1"):
        numbers(num_classes=10)


def test_validation_must_leave_a_training_batch() -> None:
    assert len(numbers(num_val=92).train_dataloader()) == 1
    with pytest.raises(ValueError, match="100 training images are too few for a num_val of 93"):
        numbers(num_val=93)
