"""The start of a training is measured for growing numbers of images, as a run of train.py."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scripts.benchmark import scale


def points(*seconds: float, spread: float = 0.0, memory: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "kind": scale.FOLDER,
            "size": 10**power,
            "seconds": value,
            "each": [value - spread, value, value + spread],
            "worker_bytes": 2**20 * 10 ** (memory * power),
        }
        for power, value in enumerate(seconds, 3)
    ]


def test_the_exponent_is_of_what_grows() -> None:
    assert scale.exponent_of_seconds(points(5, 5 + 1e-1, 5 + 1e0, 5 + 1e1)) == "1.00 (1.00 to 1.00)"
    assert scale.exponent_of_seconds(points(5, 5 + 1, 5 + 1e2)).startswith("2.00 ")
    assert scale.exponent_of_seconds(points(5, 4.9, 5.1)) == "not resolved"
    assert scale.exponent_of_seconds(points(5, 5.1, 5.0)) == "not resolved"
    assert scale.exponent_of_memory(points(1, 2, 3, memory=0.5)) == "0.50"


def test_an_exponent_says_how_far_single_runs_differ() -> None:
    assert scale.exponent_of_seconds(points(5, 6, 15, spread=0.1)) == "1.00 (0.92 to 1.10)"
    assert scale.exponent_of_seconds(points(5, 5.1, 7, spread=0.1)) == "not resolved"


def test_a_table_has_one_exponent_for_each_kind() -> None:
    _, *rows = scale.table(points(0.1, 0.2, 1.1, 10.1))
    assert [row[-2:] for row in rows] == [["", ""]] * 3 + [["1.00 (1.00 to 1.00)", "0.00"]]
    assert [row[1] for row in rows] == ["1,000", "10,000", "100,000", "1,000,000"]
    assert [row[-2:] for row in scale.table(points(0.1, 0.2))[1:]] == [["", ""]] * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process shares")
def test_all_kinds_are_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {scale.FOLDER: [200, 300], scale.NPZ: [100, 300], scale.ORDER: [100, 200, 300]}
    monkeypatch.setattr(scale, "SIZES", sizes)
    monkeypatch.setattr(scale, "PER_FOLDER", 100)
    monkeypatch.setattr(scale, "PER_NPZ", 100)
    scale.main([str(tmp_path), "--repeats", "1", "--most", "250"])
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [(point["kind"], point["size"]) for point in found] == [
        (scale.IMPORT, 0),
        (scale.FOLDER, 200),
        (scale.NPZ, 100),
        (scale.ORDER, 100),
        (scale.ORDER, 200),
    ]
    for point in found:
        assert point["seconds"] > 0
        assert point["kind"] in (scale.IMPORT, scale.ORDER) or point["worker_bytes"] > 2**20
    assert len([*(tmp_path / "files_200").glob("*/*.png")]) == 200
    assert "| npz | 100 |" in (tmp_path / "scale.md").read_text()
    with Image.open(tmp_path / "scale.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_a_run_that_fails_shows_its_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no folder"):
        scale.start(["data=image_folder", f"data.source.root={tmp_path}/none", "data.image_shape=[1,8,8]"])
