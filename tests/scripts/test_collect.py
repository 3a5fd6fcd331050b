"""A folder of runs as one table and plots."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from scripts import collect


def make_run(folder: Path, overrides: dict[str, Any] | None = None, config: Any = None, **summary: Any) -> Path:
    folder.mkdir(parents=True)
    if overrides is not None:
        (folder / ".hydra").mkdir()
        lines = [f"{key}={value}" for key, value in overrides.items()]
        (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(lines))
        (folder / ".hydra/config.yaml").write_text("seed: 0\n")
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))
        rows = "step,train/seconds,train/images,val/bits_per_dim\n5,,,\n10,1.0,320,5.0\n20,2.0,640,4.5\n"
        (folder / "metrics.csv").write_text(rows)
    return folder


def complete(val: float) -> dict[str, Any]:
    results = {"val_bits_per_dim": val, "test_bits_per_dim": val + 0.01, "test_standard_error": 0.002}
    return {"status": "completed", **results, "parameters": 1000, "steps": 20, "wall_seconds": 3.0}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    fixed = {"data": "digits", "run_id": "mine"}
    make_run(tmp_path / "0", {**fixed, "optimizer.lr": "0.001", "model.scale": "tanh4"}, **complete(4.2))
    make_run(tmp_path / "1", {**fixed, "optimizer.lr": "0.01", "model.scale": "sigmoid"}, **complete(4.1))
    make_run(tmp_path / "2", {**fixed, "optimizer.lr": "1", "model.scale": "sigmoid"}, status="failed", error="a | b")
    make_run(tmp_path / "3", {**fixed, "optimizer.lr": "0.1", "model.scale": "sigmoid"}, status="running")
    make_run(tmp_path / "4", {**fixed, "optimizer.lr": "0.1", "model.scale": "tanh4"})
    damaged = make_run(tmp_path / "5", {**fixed, "optimizer.lr": "0.2", "model.scale": "tanh4"}, **complete(1.0))
    (damaged / "summary.json").write_text("{")
    (tmp_path / ".submitit/7_0").mkdir(parents=True)
    return tmp_path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "collected.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_run_has_a_row_the_best_first(sweep: Path) -> None:
    collect.main([str(sweep)])
    assert [row["run"] for row in rows(sweep)][:2] == ["1", "0"]
    assert {row["run"]: row["status"] for row in rows(sweep)} == {
        "0": "completed",
        "1": "completed",
        "2": "failed",
        "3": "running",
        "4": "not started",
        "5": "damaged",
    }
    problems = {row["run"]: row["problem"] for row in rows(sweep)}
    assert problems["2"] == "a | b" and problems["3"] == "still running, or killed, at step 20"
    assert rows(sweep)[0]["val bits/dim"] == "4.1000" and rows(sweep)[0]["test bits/dim"] == "4.1100"


def test_columns_are_the_settings_that_differ(sweep: Path) -> None:
    collect.main([str(sweep)])
    names = list(rows(sweep)[0])
    assert names[1 : names.index("val bits/dim")] == ["model.scale", "optimizer.lr"]


def test_the_markdown_says_the_same(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect.main([str(sweep)])
    text = (sweep / "collected.md").read_text()
    assert text in capsys.readouterr().out
    assert "2 of 6 runs are complete" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    for line, row in zip(lines[2:], rows(sweep), strict=True):
        cells = [cell.strip() for cell in line.replace("\\|", "!").strip("|").split(" | ")]
        assert cells[0] == row["run"] and cells[2] == row["optimizer.lr"]


def test_each_setting_and_time_are_plotted(sweep: Path) -> None:
    collect.main([str(sweep)])
    assert sorted(path.name for path in sweep.glob("*.png")) == [
        "by-model.scale.png",
        "by-optimizer.lr.png",
        "by-time.png",
    ]
    for path in sweep.glob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(1 << 24)) > 3, "it is blank"


def test_runs_without_overrides_are_told_apart_by_their_configs(tmp_path: Path) -> None:
    for number, steps in enumerate((4, 8)):
        run_dir = tmp_path / f"run{number}"
        config = {
            "run_dir": str(run_dir),
            "model": {"num_steps": steps},
            "training": {"model": {"num_steps": steps}, "seed": 0},
            "callbacks": {"best": {"dirpath": f"{run_dir}/checkpoints"}},
            "logger": {"wandb": {"id": f"run{number}"}},
        }
        make_run(run_dir, config=config, **complete(4.0 + number))
    collect.main([str(tmp_path)])
    names = list(rows(tmp_path)[0])
    assert names[1 : names.index("val bits/dim")] == ["model.num_steps"]


def test_a_row_cut_short_and_an_override_that_is_no_yaml_do_no_harm(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "0", {"note": "'@a: b: c"}, status="running")
    with (run_dir / "metrics.csv").open("a") as file:
        file.write("30,2")
    collect.main([str(tmp_path)])
    assert rows(tmp_path)[0]["problem"] == "still running, or killed, at step 20"


def test_a_run_without_a_finite_result_or_without_a_test_stands_last_of_the_complete(tmp_path: Path) -> None:
    make_run(tmp_path / "0", {"seed": 0}, **{**complete(4.0), "val_bits_per_dim": None})
    make_run(tmp_path / "1", {"seed": 1}, status="completed", val_bits_per_dim=4.5)
    collect.main([str(tmp_path)])
    assert [row["run"] for row in rows(tmp_path)] == ["1", "0"]


@pytest.mark.parametrize("name", [".", "missing"])
def test_a_folder_without_runs_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: no run is in .*: give the folder of a sweep"):
        collect.main([str(tmp_path / name)])
