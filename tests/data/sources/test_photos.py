"""Photos: patches of photographs, split by photograph, out of GCompris' files."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data.sources.photos
from data import ImageData, Photos
from data.sources.photos import LEAST_SHRINKING, cut, photographs
from tests.support.qt_resource import write_rcc


def photo(number: int, size: tuple[int, int] = (400, 320), kind: str = "RGB") -> bytes:
    """Return a noisy picture whose mean red tells its number."""
    rng = np.random.default_rng(number)
    pixels = rng.normal([5 * number, 100, 200], 40, (size[1], size[0], 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(kind)
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with GCompris' files: 24 photographs, and pictures that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for place, game in enumerate(LEAST_SHRINKING):
        names = [f"gcompris/{game}/sea{k}.png" for k in range(4)]
        files = {name: photo(8 + 4 * place + k) for k, name in enumerate(names)}
        files["gcompris/small.png"] = photo(1, (240, 400))
        files["gcompris/sea_grey.png"] = photo(1, kind="L")
        if game == "details":
            files |= {f"gcompris/{name}_background.png": photo(1) for name in ("Van_Gogh", "TajMahal", "Gogh4")}
        write_rcc(folder / f"{game}.rcc", files)
    return folder


def test_every_photograph_is_on_one_side_of_the_splits(root: Path) -> None:
    split = ImageData(source=Photos(str(root), [3, 32, 32]), image_shape=(3, 32, 32), num_val=None, batch_size=4)
    split.prepare_data()
    split.setup()
    groups = [{*images.groups.tolist()} for images in (split.train_set, split.val_set, split.test_set)]
    assert [len(side) for side in groups] == [18, 3, 3]
    assert len(set.union(*groups)) == 24
    for images in (split.train_set, split.val_set, split.test_set):
        patches = images[list(range(len(images)))].images
        assert patches.shape[1:] == (3, 32, 32) and patches.double().std((1, 2, 3)).min() >= 3


def test_patches_are_the_same_every_time(root: Path) -> None:
    first = []
    for _ in range(2):
        source = Photos(str(root), [3, 32, 32])
        source.prepare()
        first.append(source.load()[0][[0, 5, 9]].images)
        source.file.unlink()
    assert torch.equal(*first)


def test_pictures_that_are_no_photographs_are_left_out(root: Path) -> None:
    reds = [round(float(np.asarray(image)[..., 0].mean())) for image, _ in photographs(root)]
    assert len(reds) == 24 and min(reds) > 30


def test_photographs_with_much_compression_shrink_more(root: Path) -> None:
    least = [least_shrinking for _, least_shrinking in photographs(root)]
    assert least.count(3) == 8 and least.count(2) == 16


def test_a_grid_of_patches_holds_neighbouring_pixels() -> None:
    pixels = np.arange(70 * 100 * 3).reshape(70, 100, 3)
    patches = cut(pixels, 32, np.random.default_rng(0))  # type: ignore[arg-type]
    assert patches.shape == (6, 32, 32, 3)
    top, left = divmod(patches[0, 0, 0, 0] // 3, 100)
    assert np.array_equal(patches[4], pixels[top + 32 : top + 64, left + 32 : left + 64])


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    for shape in ([1, 32, 32], [3, 32, 64]):
        with pytest.raises(ValueError, match=r"in colour and square, \(3, S, S\)"):
            Photos(str(tmp_path), shape)


def test_patches_that_are_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 128x128 pixels, got 256x256"):
        Photos(str(tmp_path), [3, 256, 256])


def test_photographs_that_are_too_small_for_a_patch_are_left_out(root: Path) -> None:
    source = Photos(str(root), [3, 128, 128])
    write_rcc(root / "erase.rcc", {f"gcompris/{k}.png": photo(40 + k, (700, 660)) for k in range(8)})
    source.prepare()
    assert sum(len({*images.groups.tolist()}) for images in source.load() if images.groups is not None) == 8


def test_photographs_out_of_reach_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str, folder: Path) -> Path:
        raise RuntimeError("apt-get says: no network")

    monkeypatch.setattr(data.sources.photos, "unpack", fail)
    with pytest.raises(RuntimeError, match=r"out of reach.*no network.*put its files .*\.rcc into .*photos by hand"):
        Photos(str(tmp_path / "photos"), [3, 32, 32]).prepare()
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["prepare.lock"]


def test_a_file_that_is_missing_is_named(root: Path) -> None:
    (root / "erase.rcc").unlink()
    with pytest.raises(RuntimeError, match=r"erase\.rcc"):
        Photos(str(root), [3, 32, 32]).prepare()


def test_damaged_patches_are_refused(root: Path) -> None:
    source = Photos(str(root), [3, 32, 32])
    source.prepare()
    source.file.write_bytes(source.file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"patches-32\.npz is damaged .*: remove it"):
        source.load()
