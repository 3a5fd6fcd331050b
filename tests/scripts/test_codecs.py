"""scripts/codecs.py: what codecs need for images, counted in bytes."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from data import Digits
from scripts import codecs
from tests.support.run import CONF


def measure(*overrides: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        codecs.main(compose("codecs", ["data=digits", *overrides]))


def test_bits_are_those_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure("num_images=5", f"out={tmp_path}/codecs.json")
    found = json.loads((tmp_path / "codecs.json").read_text())
    assert found["images"] == 5 and [*found["codecs"]] == ["PNG", "WebP", "JPEG-XL"]
    total = 0
    for image in Digits().load()[1][list(range(5))].images:
        stream = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(stream, format="PNG", optimize=True)
        total += 8 * len(stream.getvalue())
    png = found["codecs"]["PNG"]
    assert png["bits_per_dim"] == pytest.approx(total / (5 * 64))
    assert 0 < png["bits_per_dim_in_one_picture"] < png["bits_per_dim"]
    assert "| 5 test images | one by one | in one picture |" in capsys.readouterr().out


def test_one_picture_holds_all_images() -> None:
    images = torch.arange(5 * 3 * 2 * 4).view(5, 3, 2, 4)
    picture = codecs.side_by_side(images)
    assert picture.shape == (3, 4, 12)
    assert torch.equal(picture[:, 2:4, 4:8], images[4]) and not picture[:, 2:, 8:].any()


def test_a_picture_too_large_for_a_codec_has_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(codecs.LARGEST_SIDE, "WebP", 23)
    measure("num_images=5", f"out={tmp_path}/codecs.json")
    found = json.loads((tmp_path / "codecs.json").read_text())["codecs"]
    assert found["WebP"]["bits_per_dim_in_one_picture"] is None and found["WebP"]["bits_per_dim"] > 0
    assert found["PNG"]["bits_per_dim_in_one_picture"] > 0
    told = capsys.readouterr()
    assert "WebP has no pictures of 24x16 pixels: give fewer images" in told.err and " | - |" in told.out


def test_webp_has_the_limit_that_is_told() -> None:
    side = codecs.LARGEST_SIDE["WebP"]
    codecs.size(torch.zeros(1, 1, side, dtype=torch.uint8), "WebP")
    with pytest.raises(ValueError):
        codecs.size(torch.zeros(1, 1, side + 1, dtype=torch.uint8), "WebP")


def test_what_is_lossless_comes_back() -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    for name in codecs.codecs():
        stream = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, **codecs.OPTIONS[name])
        back = torch.frombuffer(bytearray(Image.open(stream).convert("RGB").tobytes()), dtype=torch.uint8)
        assert torch.equal(back.view(16, 16, 3).permute(2, 0, 1), image), name


def test_a_wrong_number_is_refused() -> None:
    with pytest.raises(ValueError, match="num_images is a whole number of at least 1"):
        measure("num_images=0")


def test_a_result_is_not_overwritten_and_a_missing_codec_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text("kept")
    with pytest.raises(FileExistsError, match="holds a result already"):
        measure("num_images=2", f"out={tmp_path}/old.json")
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    measure("num_images=2")
    told = capsys.readouterr()
    assert "JPEG-XL" not in told.out and "JPEG-XL is left out: it needs pip install -e '.[codecs]'" in told.err
