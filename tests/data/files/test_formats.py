"""What is an image: told by its content, whatever the name ends in, and never by its metadata."""

import errno
import logging
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from data import ImageFolder
from data.files.decode import decode
from data.files.formats import NotAnImageError
from tests.support.images import save

PICTURE = Image.radial_gradient("L").resize((16, 12)).convert("RGB")
SAVED = [
    "PNG",
    "JPEG",
    "GIF",
    "WEBP",
    "BMP",
    "TIFF",
    "PPM",
    "ICO",
    "PCX",
    "SGI",
    "TGA",
    "DIB",
    "DDS",
    "ICNS",
    "QOI",
]
SAVED += [name for name, codec in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(codec)]


@pytest.mark.parametrize("kind", SAVED)
def test_every_raster_format_is_read_whatever_the_name_ends_in(kind: str, tmp_path: Path) -> None:
    picture = PICTURE.resize((16, 16)) if kind in ("ICO", "ICNS") else PICTURE
    names = ["a.png", "b.JFIF", "c.avif", *([] if kind in ("TGA", "DIB", "ICNS") else ["d", "e.download", "f.txt"])]
    for name in names:
        save(picture, tmp_path / "photos" / name, format=kind)
    train, test = ImageFolder(str(tmp_path / "photos"), (3, 8, 8), str(tmp_path / "index")).load()
    assert len(train) + len(test) == len(names)


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg"])
def test_what_other_programs_draw_is_never_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("handed to Ghostscript"))
    PICTURE.save(tmp_path / name, "EPS")
    with pytest.raises(NotAnImageError, match="is no image of a kind"):
        decode(tmp_path / name, (3, 8, 8))


@pytest.mark.parametrize(
    "content",
    [
        *(b"some text\nmore text\n", b"", b"P1 is a road\n", b"/* C */\nint main;", b"#define A 1\n", b"Python\n"),
        *(
            b"Name: a\n",
            b"\0" * 5000,
            bytes(range(256)) * 20,
            b"\x89HDF\r\n\x1a\n" + bytes(100),
            b"GRIB\0\0\0\1" + bytes(99),
        ),
        *(
            b"\xd7\xcd\xc6\x9a\0\0" + bytes(99),
            b"BUFR" + bytes(99),
            b"\0\0\x01\xb3" + bytes(99),
            b"%PDF-1.4\n",
            b"\n\x02",
        ),
    ],
)
def test_other_files_beside_images_are_passed_over_and_counted(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        save(PICTURE, tmp_path / f"photos/{name}.png")
    for name in ("notes.txt", "other.dat", "noending"):
        (tmp_path / "photos" / name).write_bytes(content)
    folder = ImageFolder(str(tmp_path / "photos"), (3, 8, 8), str(tmp_path / "index"), on_damaged="raise")
    with caplog.at_level(logging.INFO, logger="data"):
        folder.prepare()
    assert "2 used, 0 left out" in caplog.text
    assert "3 passed over as no images (1 without an ending, 1 .txt, 1 .dat)" in caplog.text
    assert "left out:" not in caplog.text


@pytest.mark.parametrize("name", ["a.NEF", "a.dng", "a.png~", "a.jpg.bak", "a.thm"])
def test_raw_photographs_and_spare_copies_are_no_images(name: str, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / name, "TIFF")
    with pytest.raises(NotAnImageError, match="raw photograph or a spare copy"):
        decode(tmp_path / name, (3, 8, 8))


def test_a_damaged_image_of_any_name_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "ab":
        save(PICTURE, tmp_path / f"photos/{name}.png")
    content = BytesIO()
    Image.effect_noise((32, 32), 50).save(content, "PNG")
    (tmp_path / "photos/c").write_bytes(content.getvalue()[:600])
    ImageFolder(str(tmp_path / "photos"), (3, 8, 8), str(tmp_path / "index")).prepare()
    assert "left out: " in caplog.text and "photos/c cannot be decoded" in caplog.text


def exif(orientation: int = 6, rational: tuple[int, int] = (-1, 0)) -> bytes:
    """An orientation and a resolution that is no rational number."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack(">HHII", 0x011A, 10, 1, 38)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + bytes(4) + struct.pack(">ii", *rational)


def encoded(kind: str, **options: object) -> bytes:
    content = BytesIO()
    PICTURE.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_though_other_metadata_are_invalid(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(kind, exif=exif()))
    assert decode(tmp_path / "a.jpg", (3, 16, 12)).shape == (3, 16, 12)
    with pytest.raises(ValueError, match="too small: 12x16"):
        decode(tmp_path / "a.jpg", (3, 12, 16))


def segment(marker: int, data: bytes) -> Callable[[bytes], bytes]:
    """Insert a segment at the beginning of a JPEG."""
    return lambda jpeg: jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def chunk(kind: bytes, data: bytes, wrong: int = 0, end: bool = False) -> Callable[[bytes], bytes]:
    """Insert a chunk behind the header of a PNG, or before its end."""
    packed = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)
    return lambda png: png[:-12] + packed + png[-12:] if end else png[:33] + packed + png[33:]


ODD_EXIF = [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", b"zzz"]
HUGE = zlib.compress(bytes(3 << 20))
ODD = {
    "JPEG": [
        *(segment(0xE1, data) for data in [*ODD_EXIF, b"http://ns.adobe.com/xap/1.0/\0\xff<"]),
        *(segment(0xE2, b"ICC_PROFILE\0" + data) for data in (b"", b"\1\1", b"\1\1garbage", b"\5\2zz")),
        *(segment(0xE2, b"MPF\0" + data) for data in (b"garbage", b"MM\0*\0\0\0\x08\0\1\xb0\0")),
        *(segment(0xED, b"Photoshop 3.0\0" + data) for data in (b"8BIM\3\xed", b"8BIM\3\xed\0\0\0\0\0\2ab")),
        *(segment(0xE0, b"JFIF"), segment(0xEE, b"Adobe"), segment(0xFE, b"\xff"), segment(0xEC, b"")),
    ],
    "PNG": [
        *(chunk(b"eXIf", data) for data in (b"", b"MM", b"garbage", b"\xff")),
        *(chunk(b"iCCP", data) for data in (b"", b"a", b"a\0\5zz", b"a\0\0zz", b"a\0\0" + HUGE)),
        *(chunk(b"zTXt", b"a\0\0" + HUGE), chunk(b"zTXt", b"a\0\0" + HUGE, end=True), chunk(b"tEXt", b"a\0b", wrong=1)),
        *(chunk(kind, b"") for kind in (b"pHYs", b"gAMA", b"sRGB", b"acTL", b"tIME")),
        *(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 5\nzz"), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0zz")),
    ],
    "WEBP": [
        *(lambda _, data=data: encoded("WEBP", lossless=True, exif=data) for data in ODD_EXIF[1:]),
        *(
            lambda _: encoded("WEBP", lossless=True, icc_profile=b"zz"),
            lambda _: encoded("WEBP", lossless=True, xmp=b"<"),
        ),
    ],
    "TIFF": [lambda _: encoded("TIFF", icc_profile=b"zz"), lambda _: encoded("TIFF", tiffinfo={700: b"\xff<"})],
}


if features.check("avif"):
    ODD["AVIF"] = [lambda _: encoded("AVIF", exif=exif(1, (1, 1))[6:]).replace(b"MM\0*", b"XXXX")]


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in ODD.items() for case in range(len(cases))])
def test_odd_metadata_never_cost_an_image(kind: str, case: int, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    whole = encoded(kind, **options)
    for name, content in {"whole.png": whole, "odd.png": ODD[kind][case](whole)}.items():
        (tmp_path / name).write_bytes(content)
    shape = (3, 12, 16)
    assert torch.equal(decode(tmp_path / "odd.png", shape), decode(tmp_path / "whole.png", shape))


def test_a_png_keeps_transparency_and_orientation_when_other_metadata_are_damaged(tmp_path: Path) -> None:
    content = BytesIO()
    two = Image.new("RGB", (2, 1), (1, 2, 3))
    two.putpixel((1, 0), (9, 9, 9))
    two.save(content, "PNG", transparency=(9, 9, 9), exif=exif(6, (1, 1)))
    (tmp_path / "a.png").write_bytes(chunk(b"tEXt", b"a\0b", wrong=1)(content.getvalue()))
    assert decode(tmp_path / "a.png", (3, 2, 1))[:, :, 0].T.tolist() == [[1, 2, 3], [255, 255, 255]]


def test_pixels_that_are_damaged_are_not_mended_away(tmp_path: Path) -> None:
    png = encoded("PNG")
    middle = len(png) // 2
    (tmp_path / "a.png").write_bytes(png[:middle] + bytes([png[middle] ^ 255]) + png[middle + 1 :])
    (tmp_path / "b.jpg").write_bytes(encoded("JPEG")[:-200])
    for name in ("a.png", "b.jpg"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode(tmp_path / name, (3, 8, 8))


def test_the_largest_image_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses more than 40 of its own
    for name in ("a.png", "b.jpg", "c.png"):
        save(PICTURE, tmp_path / "photos" / name)

    def sizes(max_pixels: int | None) -> int:
        options = {} if max_pixels == 0 else {"max_pixels": max_pixels}
        return sum(
            map(len, ImageFolder(str(tmp_path / "photos"), (3, 8, 8), str(tmp_path / "index"), **options).load())
        )

    assert sizes(None) == sizes(192) == sizes(0) == 3
    with pytest.raises(
        ValueError, match=r"its 16x12 pixels are more than 191, .*data\.source\.max_pixels=192, or null"
    ):
        sizes(191)
    with pytest.raises(ValueError, match="max_pixels must be at least 1, or null"):
        sizes(-1)
    assert Image.MAX_IMAGE_PIXELS == 20
    for kind in ("TIFF", "WEBP"):
        PICTURE.save(tmp_path / "a.png", kind)
        with pytest.raises(ValueError, match=r"more pixels than Pillow reads .*whatever max_pixels is: save it as PNG"):
            decode(tmp_path / "a.png", (3, 8, 8), max_pixels=None)


def test_threads_decode_under_limits_of_their_own(tmp_path: Path) -> None:
    save(PICTURE, tmp_path / "a.png")

    def works(number: int) -> bool:
        try:
            decode(tmp_path / "a.png", (3, 8, 8), max_pixels=192 if number % 2 else 191)
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(works, range(40))) == [False, True] * 20


def test_photographs_that_pillow_cannot_read_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(FileNotFoundError, match=r"hold no image, .*; passed over: 3 \.heic"):
        ImageFolder(str(tmp_path), (3, 8, 8), str(tmp_path / ".index")).load()


@pytest.mark.parametrize("place", ["data.files.decode.flatten", "PIL.PngImagePlugin.PngImageFile._open"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "")])
def test_want_of_memory_and_a_failing_disk_are_no_damage(
    error: Exception, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    save(PICTURE, tmp_path / "a.png")
    monkeypatch.setattr(place, fail)
    with pytest.raises(type(error)):
        decode(tmp_path / "a.png", (3, 8, 8))


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "TIFF", "ICO", "BMP", "GIF", "WEBP", "ICNS", "PSD", "SGI", "AVIF", "TGA"]
)
def test_a_damaged_file_raises_nothing_but_a_sentence(kind: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    if kind == "PSD":
        whole = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(400)
    else:
        whole = encoded(kind)
    for _ in range(100):
        content = bytearray(whole)
        for place in generator.integers(len(content), size=3):
            content[place] = generator.integers(256)
        (tmp_path / "a.png").write_bytes(content)
        try:
            decode(tmp_path / "a.png", (3, 8, 8), enlarge=True, max_pixels=10_000)
        except ValueError as error:
            assert "a.png" in str(error) and "\n" not in str(error)
