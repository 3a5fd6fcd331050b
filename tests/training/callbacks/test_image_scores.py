"""The bits/dim of each test image."""

import csv
from pathlib import Path
from zlib import crc32

import pytest

from data import Digits
from flows.training import read_summary
from scripts import collect
from tests.support.run import run_training


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_test_writes_one_row_per_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lr in ("one", "1e-3"), ("other", "1e-2"):
        run_training(tmp_path / name, "trainer.max_steps=3", "trainer.max_epochs=-1", f"optimizer.lr={lr}")
    found, summary = rows(tmp_path / "one/test.csv"), read_summary(tmp_path / "one/summary.json")
    _, test_set = Digits().load()
    assert [int(row["index"]) for row in found] == list(range(297))
    assert {row["draws"] for row in found} == {"2"}
    assert [int(row["crc32"]) for row in found] == [crc32(image.numpy()) for image in test_set[[*range(297)]].images]
    assert sum(float(row["bits_per_dim"]) for row in found) / 297 == pytest.approx(
        summary["test_bits_per_dim"], abs=1e-6
    )
    collect.main(["--compare", str(tmp_path / "one"), str(tmp_path / "other")])
    assert "paired on 297 test images" in capsys.readouterr().out


def test_without_a_test_there_is_no_file(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_steps=1", "trainer.max_epochs=-1", "test=false")
    assert not (tmp_path / "test.csv").exists()
