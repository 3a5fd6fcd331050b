"""A folder of runs as one table and plots."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from flows.training import read_run
from scripts import collect
from scripts.comparison.form import escape


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


def test_a_setting_that_is_null_is_another_than_its_default(tmp_path: Path) -> None:
    make_run(tmp_path / "0", {"seed": "0"}, **complete(4.2))
    make_run(tmp_path / "1", {"seed": "1", "model.input_limit": "null"}, **complete(4.1))
    collect.main([str(tmp_path)])
    assert {row["run"]: row["model.input_limit"] for row in rows(tmp_path)} == {"0": "", "1": "None"}


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


def test_a_seed_without_a_finite_result_is_not_left_out_of_a_mean(tmp_path: Path) -> None:
    for seed, val in enumerate([4.0, None]):
        make_run(
            tmp_path / f"a-{seed}",
            {"optimizer.lr": "1e-3", "seed": str(seed)},
            **{**complete(4.0), "val_bits_per_dim": val},
        )
        make_run(tmp_path / f"b-{seed}", {"optimizer.lr": "1e-2", "seed": str(seed)}, **complete(5.0))
    collect.main([str(tmp_path)])
    better, worse = group_rows(tmp_path)
    assert (better["optimizer.lr"], better["val bits/dim"]) == ("0.01", "5.0000")
    assert (worse["runs"], worse["val bits/dim"], worse["val bits/dim, deviation"]) == ("2", "not finite", "")
    assert worse["test bits/dim"] == "4.0100"
    assert rows(tmp_path)[-1]["val bits/dim"] == "not finite"


def test_there_is_no_mean_over_those_runs_only_that_were_tested(tmp_path: Path) -> None:
    make_run(tmp_path / "0", {"seed": "0"}, **complete(4.0))
    make_run(tmp_path / "1", {"seed": "1"}, status="completed", val_bits_per_dim=4.5)
    collect.main([str(tmp_path)])
    (row,) = group_rows(tmp_path)
    assert (row["val bits/dim"], row["test bits/dim"]) == ("4.2500", "1 of 2 runs have it")


def test_the_tables_are_shown_even_if_they_cannot_be_written(
    repeated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repeated / "collected.csv").mkdir()
    with pytest.raises(
        SystemExit, match=r"error: tables and plots could not be written .*collected.csv.*: make .* wri"
    ):
        collect.main([str(repeated)])
    shown = capsys.readouterr().out
    assert "5 of 6 runs are complete" in shown and "4.2000 ± 0.2000" in shown


def test_a_sweep_is_collected_from_inside_its_folder(
    repeated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect.main([str(repeated)])
    expected = capsys.readouterr().out.replace(f"{repeated}/", "")
    monkeypatch.chdir(repeated)
    collect.main(["."])
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("damage", ["", "[1, 2]", "a: ["])
def test_damaged_settings_of_one_run_do_not_hide_the_others(
    damage: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(sweep / "6", None, {}, **complete(1.0))
    (sweep / "6/config.yaml").write_text(damage)
    collect.main([str(sweep)])
    shown = capsys.readouterr().out
    assert "2 of 7 runs are complete" in shown and "config.yaml or .hydra/overrides.yaml is damaged" in shown


@pytest.mark.parametrize("name", [".", "missing"])
def test_a_folder_without_runs_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: no run is in .*: give the folder of a sweep"):
        collect.main([str(tmp_path / name)])


@pytest.fixture
def repeated(tmp_path: Path) -> Path:
    """Two settings with three seeds each, one of them failed."""
    for number, (lr, seed, val) in enumerate(
        [("1e-3", 0, 4.0), ("1e-3", 1, 4.2), ("1e-3", 2, 4.4), ("1e-2", 0, 3.0), ("1e-2", 1, 3.1)]
    ):
        make_run(tmp_path / str(number), {"optimizer.lr": lr, "seed": str(seed)}, **complete(val), seed=seed)
    make_run(tmp_path / "5", {"optimizer.lr": "1e-2", "seed": "2"}, status="failed", error="diverged", seed=2)
    return tmp_path


def group_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "groups.csv").open() as file:
        return list(csv.DictReader(file))


def test_seeds_are_repeats_with_mean_and_deviation(repeated: Path) -> None:
    collect.main([str(repeated)])
    assert "optimizer.lr" in rows(repeated)[0] and rows(repeated)[0]["seed"] == "0"
    assert [row["run"] for row in rows(repeated)] == ["3", "4", "0", "1", "2", "5"]
    better, worse = group_rows(repeated)
    assert (better["optimizer.lr"], worse["optimizer.lr"]) == ("0.01", "0.001")
    assert (better["runs"], better["seeds"], better["without result"]) == ("2", "2", "1")
    assert (worse["val bits/dim"], worse["val bits/dim, deviation"]) == ("4.2000", "0.2000")
    assert (worse["test bits/dim"], worse["test bits/dim, deviation"]) == ("4.2100", "0.2000")
    assert not (repeated / "by-seed.png").exists() and (repeated / "by-optimizer.lr.png").exists()


def test_groups_stand_in_markdown_and_latex(repeated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect.main([str(repeated)])
    assert "4.2000 ± 0.2000" in (repeated / "groups.md").read_text()
    assert "4.2000 ± 0.2000" in capsys.readouterr().out
    text = (repeated / "groups.tex").read_text()
    lines = text.splitlines()
    assert lines[0].startswith(r"\begin{tabular}{") and lines[-1] == r"\end{tabular}"
    assert r"4.2000 $\pm$ 0.2000" in text
    cells = [line.count(" & ") for line in lines if line.endswith(r"\\")]
    assert len(set(cells)) == 1 and cells[0] == len(lines[0].rpartition("{")[2]) - 2
    assert escape("a_b & 50% \\") == r"a\_b \& 50\% \textbackslash{}"
    assert escape("[0.9, 1]") == "{[}0.9, 1]"  # after the end of a row, a bracket would be a length


def test_runs_without_a_test_have_a_table_and_plots(tmp_path: Path) -> None:
    for number in range(2):
        make_run(
            tmp_path / str(number),
            {"optimizer.lr": f"1e-{number}"},
            status="completed",
            val_bits_per_dim=4.0 + number,
        )
    collect.main([str(tmp_path)])
    assert rows(tmp_path)[0]["test bits/dim"] == "" and group_rows(tmp_path)[0]["test bits/dim"] == ""
    assert "test" not in (tmp_path / "groups.md").read_text()
    assert (tmp_path / "by-optimizer.lr.png").exists()


def test_curves_of_one_run_are_of_validation_and_training(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "one", {}, **complete(4.0))
    (run_dir / "metrics.csv").write_text(
        "step,train/seconds,train/images,val/bits_per_dim,train/bits_per_dim\n"
        "5,,,,6.0\n9,,,,5.0\n10,1.0,320,5.0,\n15,,,,4.0\n20,2.0,640,4.5,\n"
    )
    assert [point.train_bits_per_dim for point in read_run(run_dir, "one").curve] == [5.5, 4.0]
    collect.main([str(run_dir)])
    assert rows(run_dir)[0]["run"] == "one" and (run_dir / "by-time.png").exists()


FACTS = {"dequantize": "uniform", "test_draws": 4, "test_seed": 0, "num_bits": 8, "num_classes": None}
SCORES = [2.0, 3.0, 4.0]


def run_with_scores(folder: Path, scores: list[float], seed: int = 0, crc32: int = 7, **facts: Any) -> Path:
    make_run(folder, {"seed": str(seed)}, **complete(3.0), seed=seed, **{**FACTS, **facts})
    lines = [f"{index},{bits},4,{crc32 + index}" for index, bits in enumerate(scores)]
    (folder / "test.csv").write_text("\n".join(["index,bits_per_dim,draws,crc32", *lines]) + "\n")
    return folder


def test_two_runs_are_compared_image_by_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = run_with_scores(tmp_path / "one", SCORES), run_with_scores(tmp_path / "other", [2.1, 3.3, 4.2])
    collect.main(["--compare", str(one), str(other)])
    shown = capsys.readouterr().out
    assert "difference: -0.2000 ± 0.0577 bits/dim, the first minus the second, paired on 3 test images" in shown
    assert "better on 100.0% of the images" in shown
    assert "not that of training seeds" in shown


def test_several_seeds_are_averaged_image_by_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        run_with_scores(tmp_path / f"a-{seed}", [score + seed for score in SCORES], seed)
    other = run_with_scores(tmp_path / "other", SCORES)
    collect.main(["--compare", f"{tmp_path}/a-*", str(other)])
    shown = capsys.readouterr().out
    assert "3.5000 bits/dim (deviation over 2 runs 0.7071)" in shown
    assert "difference: +0.5000 ± 0.0000 bits/dim" in shown


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dequantize": "variational"}, "other kinds of bound, so .*: uniform in one, variational in other"),
        ({"test_draws": 1}, "other numbers of noise draws"),
        ({"test_seed": 1}, "other seeds of the noise"),
        ({"num_bits": 5}, "other bits per channel"),
        ({"num_classes": 10}, r"other conditioning \(classes\).*: none in one, 10 in other"),
        ({"condition_shape": [1, 2, 2]}, r"other conditioning \(images\)"),
        ({"crc32": 8}, "were tested on other images .3 and 3, 0 of them the same."),
    ],
)
def test_runs_that_were_not_tested_alike_are_not_compared(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    one, other = run_with_scores(tmp_path / "one", SCORES), run_with_scores(tmp_path / "other", SCORES, **facts)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        collect.main(["--compare", str(one), str(other)])


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        (
            {"status": "completed", "val_bits_per_dim": 3.0},
            r"two was trained further since its test \(completed\): test",
        ),
        ({"status": "interrupted", "test_bits_per_dim": 3.0}, r"two was trained further since its test \(interrupted"),
        (
            {"status": "completed", "test_bits_per_dim": 3.0},
            "two/summary.json lacks test_draws, test_seed, dequantize: ",
        ),
        ("{", "two: summary.json is damaged: .*: remove it, and test the run again by its command with resume=auto"),
        ([], "two: summary.json is damaged: .*: remove it, and test the run again by its command with resume=auto"),
    ],
)
def test_a_run_whose_scores_may_be_of_earlier_weights_is_refused(tmp_path: Path, summary: Any, message: str) -> None:
    one, two = run_with_scores(tmp_path / "one", SCORES), run_with_scores(tmp_path / "two", SCORES)
    (two / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        collect.main(["--compare", str(one), str(two)])


def test_a_side_without_a_test_or_of_several_settings_is_refused(tmp_path: Path) -> None:
    one, untested = run_with_scores(tmp_path / "one", SCORES), make_run(tmp_path / "untested", {}, **complete(4.0))
    with pytest.raises(SystemExit, match=r"untested holds no run with a test.csv: give the folder of a run that was"):
        collect.main(["--compare", str(one), str(untested)])
    for number in range(2):
        folder = run_with_scores(tmp_path / f"sweep/{number}", SCORES)
        (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump([f"optimizer.lr=0.{number}"]))
    with pytest.raises(SystemExit, match=r"the runs of .*sweep differ in optimizer.lr: give runs that differ by their"):
        collect.main(["--compare", str(one), str(tmp_path / "sweep")])
    (one / "test.csv").write_text("index\n0\n")
    with pytest.raises(SystemExit, match=r"test.csv is damaged .*: test the run again"):
        collect.main(["--compare", str(one), str(one)])


@pytest.mark.parametrize("arguments", [[], ["folder", "--compare", "a", "b"]])
def test_a_folder_or_a_comparison_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        collect.main(arguments)
    assert "give a FOLDER, or --compare A B" in capsys.readouterr().err
