"""Scores over several kinds of images, and the best one on a kind that was left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import compare_scores
from scripts.compare_scores import left_out

AREAS = {
    "a": {"one": 0.95, "two": 0.8, "three": 0.7},
    "b": {"one": 0.9, "two": 1.0, "three": 0.7},
    "c": {"one": 0.5, "two": 0.6, "three": 0.7},
}


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    for name, row in AREAS.items():
        (tmp_path / name).mkdir()
        more = {"only here": 1.0} if name == "a" else {}
        table = {score: {"auroc": area, "auprc": 0.1} for score, area in (row | more).items()}
        (tmp_path / f"{name}/table.json").write_text(json.dumps(table))
    return [str(tmp_path / name) for name in AREAS]


def test_what_is_left_out_plays_no_part_in_the_choice() -> None:
    assert left_out(AREAS) == [("a", "two", 0.8), ("b", "one", 0.9), ("c", "one", 0.5)]
    worse = AREAS | {"b": {"one": 0.0, "two": 0.0, "three": 1.0}}
    assert left_out(worse)[1] == ("b", "one", 0.0)


def test_both_tables_are_printed_with_the_scores_that_all_have(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    compare_scores.main(folders)
    areas, choices = capsys.readouterr().out.split("\n\n")
    assert areas.splitlines()[0] == "| score | a | b | c |"
    assert areas.splitlines()[2:] == [
        "| two | 0.800 | 1.000 | 0.600 |",
        "| one | 0.950 | 0.900 | 0.500 |",
        "| three | 0.700 | 0.700 | 0.700 |",
    ]
    assert choices.splitlines()[-1] == "| c | one | 0.500 |"


def test_a_folder_may_have_the_name_of_a_column(folders: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a").rename(tmp_path / "score")
    compare_scores.main([f"{tmp_path}/score", *folders[1:]])
    areas, _ = capsys.readouterr().out.split("\n\n")
    assert areas.splitlines()[0] == "| score | score | b | c |"
    assert areas.splitlines()[2] == "| two | 0.800 | 1.000 | 0.600 |"


def test_other_folders_are_named(folders: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no .*table\.json: give folders that scripts/score\.py wrote"):
        compare_scores.main([*folders, str(tmp_path)])
    for wrong in (folders[:1], [*folders, f"{tmp_path}/b/../a"]):
        with pytest.raises(SystemExit, match="give at least two folders, with different names"):
            compare_scores.main(wrong)
    (tmp_path / "a/table.json").write_text("[1]")
    with pytest.raises(SystemExit, match=r"a/table\.json is no table of scores: make it again"):
        compare_scores.main(folders)
