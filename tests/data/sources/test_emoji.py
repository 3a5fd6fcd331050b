"""Emoji: pictures out of a bitmap font, variants of one kept together."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from PIL import Image

import data.sources.emoji
from data import Emoji, ImageData

NAMES = {
    "thumb": (0x1F44D,),
    "thumb_dark": (0x1F44D, 0x1F3FF),
    "doctor": (0x1F468, 0x200D, 0x2695),
    "doctor_woman": (0x1F469, 0x1F3FB, 0x200D, 0x2695),
    "family": (0x1F468, 0x200D, 0x1F469, 0x200D, 0x1F466),
    "couple": (0x1F469, 0x200D, 0x1F468, 0x200D, 0x1F467),
    "france": (0x1F1EB, 0x1F1F7),
    "germany": (0x1F1E9, 0x1F1EA),
}


def test_variants_have_one_name_and_different_pictures_different_ones() -> None:
    names = {name: data.sources.emoji.group_name(points, name) for name, points in NAMES.items()}
    assert names["thumb"] == names["thumb_dark"]
    assert names["doctor"] == names["doctor_woman"]
    assert names["family"] == names["couple"]
    assert len(set(names.values())) == 5
    assert data.sources.emoji.group_name(None, "u.x_1") == "ux1"


def make_font(folder: Path) -> Path:
    """Write a font of single-coloured pictures: 26 letters, each with a variant by a ligature."""
    letters = [chr(ord("a") + k) for k in range(26)]
    builder = FontBuilder(1024, isTTF=True)
    glyphs = [".notdef", "tone", *letters, *(f"{letter}_tone" for letter in letters)]
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({0x1F3FB: "tone", **{ord(letter): letter for letter in letters}})
    builder.setupHorizontalMetrics({glyph: (1024, 0) for glyph in glyphs})
    builder.setupHorizontalHeader()
    rules = "".join(f"sub {letter} tone by {letter}_tone;\n" for letter in letters)
    builder.addOpenTypeFeatures(f"feature ccmp {{\n{rules}}} ccmp;")
    strike = {}
    for place, glyph in enumerate(glyphs[2:]):
        path = folder / "glyph.png"
        Image.new("RGBA", (136, 128), (4 * place, 0, 0, 255)).save(path)
        strike[glyph] = bitmap = cbdt_bitmap_format_17(b"", builder.font)
        bitmap.imageData = path.read_bytes()
    path.unlink()
    builder.font["CBDT"] = newTable("CBDT")
    builder.font["CBDT"].strikeData = [strike]
    return builder.font


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emoji:
    font = make_font(tmp_path)
    monkeypatch.setattr("fontTools.ttLib.TTFont", lambda path: font)
    root = tmp_path / "emoji"
    root.mkdir()
    (root / data.sources.emoji.FONT).touch()
    return Emoji(str(root), [3, 8, 8], str(tmp_path / "index"))


def test_every_picture_is_there_and_variants_are_on_one_side_of_each_split(source: Emoji) -> None:
    split = ImageData(source=source, image_shape=(3, 8, 8), num_val=5, batch_size=4)
    split.prepare_data()
    split.setup()
    sides = []
    for images in (split.train_set, split.val_set, split.test_set):
        reds = images[list(range(len(images)))].images[:, 0, 0, 0]
        sides.append(sorted(int(red) // 4 for red in reds))
    assert sorted(place for side in sides for place in side) == list(range(52))
    letters = [{place % 26 for place in side} for side in sides]
    assert [len(side) for side in sides] == [2 * len(side) for side in letters]
    assert len(sides[1]) == 6 and len(sides[2]) == 6


def test_pictures_are_written_once(source: Emoji, monkeypatch: pytest.MonkeyPatch) -> None:
    source.prepare()
    monkeypatch.setattr(data.sources.emoji, "bitmaps", lambda font: pytest.fail("read again"))
    monkeypatch.setattr(data.sources.emoji, "FileLock", lambda path: pytest.fail("locked"))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("made"))
    source.prepare()
    train, test = source.load()
    assert len(train) + len(test) == 52


def test_a_font_out_of_reach_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(package: str, folder: Path) -> Path:
        raise OSError("no apt here")

    monkeypatch.setattr(data.sources.emoji, "unpack", unreachable)
    with pytest.raises(RuntimeError, match=r"no apt here\): put NotoColorEmoji.ttf, .*, into .*emoji by hand"):
        Emoji(str(tmp_path / "emoji"), [3, 8, 8], str(tmp_path)).prepare()
    assert not (tmp_path / "emoji/pictures").exists()


def outlines(path: Path) -> None:
    """Write a font that has no bitmaps."""
    builder = FontBuilder(1024, isTTF=True)
    builder.setupGlyphOrder([".notdef", "a"])
    builder.setupCharacterMap({ord("a"): "a"})
    builder.addOpenTypeFeatures("feature ccmp { sub a by a; } ccmp;")
    builder.font.save(path)


@pytest.mark.parametrize("write", [outlines, lambda path: path.write_bytes(b"damaged")], ids=["outlines", "damaged"])
def test_a_font_without_bitmaps_says_what_to_put_there(tmp_path: Path, write: Callable[[Path], object]) -> None:
    font = tmp_path / "emoji" / data.sources.emoji.FONT
    font.parent.mkdir()
    write(font)
    with pytest.raises(ValueError, match=r"NotoColorEmoji.ttf is no bitmap font \(CBDT\).* Debian's .* or remove it"):
        Emoji(str(font.parent), [3, 8, 8], str(tmp_path)).prepare()
    assert not (font.parent / "pictures").exists()


def test_without_groups_a_split_is_as_it_always_was() -> None:
    rest, held = data.order.split_off(10, 3, "validation", 0)
    rows = data.order.shuffled(10, "validation", 0)
    assert held.tolist() == sorted(rows[:3].tolist()) and rest.tolist() == sorted(rows[3:].tolist())


def test_groups_stay_together_whatever_their_sizes() -> None:
    groups = torch.tensor([5, 5, 5, 1, 2, 2, 9, 9, 9, 9])
    for seed in range(20):
        rest, held = data.order.split_off(10, 3, seed, groups=groups)
        assert len(held) >= 3 and sorted([*rest, *held]) == list(range(10))
        assert not {*groups[rest].tolist()} & {*groups[held].tolist()}
