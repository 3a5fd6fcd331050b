"""Images that a command is given are read as those of a data set are."""

import zlib
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from data.files.decode import original
from scripts.files.read_images import read_images
from tests.support.images import save


def test_hidden_files_and_those_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    save(Image.new("RGB", (8, 8)), tmp_path / "b.png")
    save(Image.new("RGB", (8, 8)), tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"left by another system")
    (tmp_path / "notes.txt").write_text("mine")
    images, names = read_images(str(tmp_path), (3, 8, 8))
    assert [Path(name).name for name in names] == ["a.png", "b.png"] and images.shape == (2, 3, 8, 8)


def test_a_folder_of_hidden_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "._a.png").write_bytes(b"left by another system")
    with pytest.raises(FileNotFoundError, match="is a folder without images"):
        read_images(str(tmp_path), (3, 8, 8))


def test_what_is_said_of_the_size_is_about_the_upright_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, size in {"fits": (12, 8), "scaled": (8, 12)}.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.jpg", exif=exif)
    read_images(str(tmp_path), (3, 12, 8))
    told = capsys.readouterr().err
    assert "scaled.jpg: scaled from 12x8 to cover 8x12" in told and "fits.jpg" not in told


def test_an_image_with_damaged_metadata_is_read(tmp_path: Path) -> None:
    content = BytesIO()
    Image.new("L", (8, 8), 7).save(content, "PNG")
    png = content.getvalue()
    chunk = b"\0\0\0\3tEXta\0b" + (zlib.crc32(b"tEXta\0b") ^ 1).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(png[:33] + chunk + png[33:])
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.png")
    images, _ = read_images(str(tmp_path / "a.png"), (1, 8, 8))
    assert torch.equal(images, torch.full((1, 1, 8, 8), 7, dtype=torch.uint8))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut off"])
def test_what_is_no_image_is_named_by_all_that_look_at_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for look in (lambda: read_images(str(tmp_path), (3, 8, 8)), lambda: original(tmp_path / "a.png")):
        with pytest.raises(ValueError, match=r"a\.png "):
            look()
