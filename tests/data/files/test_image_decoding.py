"""Decoding: every kind of image file becomes 8-bit grey or colour of the shape asked for, or is named."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import ImageFolder
from data.files.decode import decode
from tests.support.images import save


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


def test_small_images_grow_on_demand_only(tmp_path: Path) -> None:
    save(Image.new("RGB", (3, 2), (5, 6, 7)), tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"small\.png is too small: 3x2 \(W x H\) where 8x16 are needed"):
        decode(tmp_path / "small.png", (3, 16, 8))
    decoded = decode(tmp_path / "small.png", (3, 16, 8), enlarge=True)
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


def nothing(path: Path) -> None:
    path.touch()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.png")


def a_bomb(path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(path)


DAMAGED = {
    no_image: "no image of a kind",
    half_an_image: "cannot be decoded",
    floats: "floating-point",
    beyond_16_bits: "16 bits",
    nothing: "is empty",
    a_link_to_nothing: "a link to nothing",
    a_bomb: "decompression bomb",
}


@pytest.mark.parametrize("write", DAMAGED)
def test_a_damaged_file_is_named_and_left_out_or_fatal(
    tmp_path: Path, write: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        save(Image.new("L", (2, 2)), tmp_path / f"photos/{name}.png")
    write(tmp_path / "photos/broken.png")
    folder = partial(ImageFolder, str(tmp_path / "photos"), (1, 2, 2), str(tmp_path / "index"))
    with caplog.at_level(logging.INFO, logger="data"):
        folder().prepare()
    assert f"left out: {tmp_path}/photos/broken.png" in caplog.text and DAMAGED[write] in caplog.text
    assert "4 images, 1 left out" in caplog.text
    train, test = folder().load()
    assert len(train) + len(test) == 3
    with pytest.raises(ValueError, match=r"broken\.png .*one of 1 such files"):
        folder(on_damaged="raise").load()


def test_a_central_square_is_cut_out_first(tmp_path: Path) -> None:
    image = np.zeros((10, 8), dtype=np.uint8)
    image[3:7, 2:6] = 200
    save(Image.fromarray(image), tmp_path / "a.png")
    assert decode(tmp_path / "a.png", (1, 2, 2), crop=4).unique().tolist() == [200]
    with pytest.raises(ValueError, match="too small: 8x10"):
        decode(tmp_path / "a.png", (1, 2, 2), crop=9)
