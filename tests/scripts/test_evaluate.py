"""scripts/evaluate.py: the same number as the run that made the checkpoint, and a tighter bound under its own name."""

import csv
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from data import Digits
from data.image_set import Joined, Subset
from flows.likelihood import draw_log_probs, mean_bits_per_dim
from flows.training import load_flow, read_summary
from scripts import evaluate
from tests.support.run import CONF, run_training


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=1")
    return folder


def run_evaluate(run_dir: Path, *overrides: str) -> dict[str, float]:
    out = run_dir / "evaluation.json"
    out.unlink(missing_ok=True)
    with initialize_config_dir(CONF, version_base="1.3"):
        evaluate.main(
            compose("evaluate", [f"ckpt={run_dir}/best.safetensors", "data=digits", f"out={out}", *overrides])
        )
    return json.loads(out.read_text(), parse_constant=pytest.fail)


def test_it_repeats_the_runs_own_test(run_dir: Path) -> None:
    summary = read_summary(run_dir / "summary.json")
    result = run_evaluate(run_dir, "num_draws=2")
    assert result["bits_per_dim"] == pytest.approx(summary["test_bits_per_dim"], rel=1e-7)
    assert result["standard_error"] == pytest.approx(summary["test_standard_error"], rel=1e-5)
    assert result["images"] == 297


def test_batch_size_changes_nothing(run_dir: Path) -> None:
    one, other = (run_evaluate(run_dir, f"data.eval_batch_size={size}")["bits_per_dim"] for size in (297, 40))
    assert one == pytest.approx(other, rel=1e-6)


def test_splits_are_whole(run_dir: Path) -> None:
    assert run_evaluate(run_dir, "split=val")["images"] == 200
    assert run_evaluate(run_dir, "split=train")["images"] == 1300


def test_the_importance_weighted_bound_is_tighter_and_named_so(run_dir: Path) -> None:
    plain = run_evaluate(run_dir, "num_draws=8")
    assert "importance_weighted_bits_per_dim" not in plain
    both = run_evaluate(run_dir, "num_draws=8", "importance_weighted=true")
    assert both["bits_per_dim"] == plain["bits_per_dim"]
    assert both["importance_weighted_bits_per_dim"] < both["bits_per_dim"]


def test_an_unknown_split_is_named(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="split is one of train, val, test, all; got 'tests' \\(did you mean 'test'"):
        run_evaluate(run_dir, "split=tests")


def test_one_image_has_no_error(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Digits.load
    monkeypatch.setattr(Digits, "load", lambda self: (load(self)[0], Subset(load(self)[1], torch.tensor([5]))))
    result = run_evaluate(run_dir)
    assert result["images"] == 1 and result["standard_error"] is None


def test_data_of_other_classes_are_refused_for_a_flow_that_was_given_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(tmp_path, "model.num_classes=10", "trainer.max_steps=1", "test=false")
    assert run_evaluate(tmp_path, "num_draws=1")["images"] == 297
    monkeypatch.setattr("data.sources.digits.NAMES", tuple("9876543210"))
    with pytest.raises(ValueError, match=r"the model knows the classes 0, 1, .* but those of the data are 9, 8"):
        run_evaluate(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_has_a_row_and_the_rows_average_to_the_result(run_dir: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    result = run_evaluate(run_dir, "num_draws=3", "importance_weighted=true", f"per_image={table}")
    found = rows(table)
    assert [row["index"] for row in found] == [str(number) for number in range(297)]
    for name in "bits_per_dim", "importance_weighted_bits_per_dim":
        mean = sum(float(row[name]) for row in found) / 297
        assert mean == pytest.approx(result[name], abs=1e-6)
    assert {row["label"] for row in found} == set("0123456789") and not any(row["file"] for row in found)
    assert all(float(row["error_over_draws"]) > 0 for row in found)


def test_one_draw_has_no_error_over_draws(run_dir: Path, tmp_path: Path) -> None:
    run_evaluate(run_dir, "num_draws=1", f"per_image={tmp_path}/scores.csv")
    assert "error_over_draws" not in rows(tmp_path / "scores.csv")[0]


def grey_pictures(folder: Path, number: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{letter}.png" for letter in "cabdefgh"[:number]]
    for shade, path in enumerate(paths):
        Image.new("L", (8, 8), 30 * shade).save(path)
    return paths


def folder_of(place: Path) -> list[str]:
    """Return the settings that evaluate all images of the folder `mine`."""
    return [
        "data=image_folder",
        f"data.source.root={place}/mine",
        f"data.source.index_dir={place}/index",
        "data.image_shape=[1,8,8]",
        "data.num_workers=0",
        "split=all",
    ]


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_folder_is_scored_as_it_is(run_dir: Path, tmp_path: Path, number: int, in_memory: str) -> None:
    paths = grey_pictures(tmp_path / "mine", number)
    table = tmp_path / "scores.csv"
    result = run_evaluate(run_dir, *folder_of(tmp_path), f"data.source.in_memory={in_memory}", f"per_image={table}")
    assert result["images"] == number
    assert [row["file"] for row in rows(table)] == sorted(map(str, paths))
    assert all(row["label"] == "" for row in rows(table))


def test_all_images_of_a_data_set_are_those_of_its_splits(run_dir: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    assert run_evaluate(run_dir, "split=all", "num_draws=1", f"per_image={table}")["images"] == 1797
    bits = [row["bits_per_dim"] for row in rows(table)]
    images = Joined(Digits().load())
    flow = load_flow(run_dir / "best.safetensors")
    batch = images[[3, 1600]]
    assert torch.equal(batch.images[1], Digits().load()[1][[100]].images[0])
    log_probs = draw_log_probs(flow, batch.images, None, batch.index, num_draws=1, seed=0)
    expected = mean_bits_per_dim(log_probs, flow.num_dims).tolist()
    assert [float(bits[3]), float(bits[1600])] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("per_image={}/missing/scores.csv", r"per_image=.*: there is no folder .*missing: make it"),
        ("out={}/missing/result.json", r"out=.*: there is no folder"),
        ("out={}/result.csv", r"out=.*result.csv would hold JSON: give it a name that ends in .json"),
        ("per_image={}/scores.json", r"would hold CSV: give it a name that ends in .csv"),
    ],
)
def test_files_that_cannot_be_written_are_named_before_the_work(
    run_dir: Path, tmp_path: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_flow", pytest.fail)
    with pytest.raises((ValueError, OSError), match=message):
        run_evaluate(run_dir, override.format(tmp_path))


@pytest.mark.parametrize("key", ["out", "per_image"])
def test_a_result_is_not_overwritten(run_dir: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / {"out": "result.json", "per_image": "scores.csv"}[key]
    path.write_text("before")
    monkeypatch.setattr(evaluate, "load_flow", pytest.fail)
    with pytest.raises(FileExistsError, match=rf"{key}=.* holds a result already: give another path, or remove it"):
        run_evaluate(run_dir, f"{key}={path}")
    assert path.read_text() == "before"


@pytest.mark.parametrize("key", ["out", "per_image"])
def test_a_folder_that_cannot_be_written_is_named_before_the_work(
    run_dir: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_flow", pytest.fail)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match=rf"{key}=.* cannot be written there: give another path"):
        run_evaluate(run_dir, f"{key}={tmp_path}/{'result.json' if key == 'out' else 'scores.csv'}")


def test_the_result_is_there_if_the_rows_cannot_be_written(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluate, "write_rows", full)
    out = tmp_path / "result.json"
    with pytest.raises(OSError, match="No space left"):
        run_evaluate(run_dir, f"out={out}", f"per_image={tmp_path}/scores.csv")
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


def test_names_that_are_no_text_are_kept(run_dir: Path, tmp_path: Path) -> None:
    (path,) = grey_pictures(tmp_path / "mine", 1)
    path.rename(path.parent / os.fsdecode(b"a\xff.png"))
    run_evaluate(run_dir, *folder_of(tmp_path), f"per_image={tmp_path}/scores.csv")
    assert b"/mine/a\xff.png," in (tmp_path / "scores.csv").read_bytes()


def test_images_that_are_not_finite_are_counted_and_the_first_is_named(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_range(*arguments: Any, **settings: Any) -> torch.Tensor:
        return draw_log_probs(*arguments, **settings).index_fill(1, torch.tensor([1, 3]), -math.inf)

    run_evaluate(run_dir)
    assert "not finite" not in capsys.readouterr().err
    monkeypatch.setattr(evaluate, "draw_log_probs", out_of_range)
    assert run_evaluate(run_dir, "data.eval_batch_size=297")["bits_per_dim"] is None
    assert "bits/dim is not finite for 2 of 297 images, the first is row 1: " in capsys.readouterr().err
    paths = sorted(grey_pictures(tmp_path / "mine", 5))
    run_evaluate(run_dir, *folder_of(tmp_path))
    assert f"for 2 of 5 images, the first is {paths[1]}: the flow maps them out of range" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_from_the_shell(run_dir: Path, tmp_path: Path) -> None:
    script = str(Path(CONF).parent / "scripts/evaluate.py")
    command = [sys.executable, script, f"ckpt={run_dir}/best.safetensors", "data=digits", "num_draws=2"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    summary = read_summary(run_dir / "summary.json")
    assert json.loads(shown)["bits_per_dim"] == pytest.approx(summary["test_bits_per_dim"], rel=1e-6)
    assert not list(tmp_path.iterdir())
