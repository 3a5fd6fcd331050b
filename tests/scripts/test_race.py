"""Racing configs against each other."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from flows.training import Run
from flows.training.run.folder import Point
from scripts import race
from tests.support.run import TINY

TOLD = f"model.num_steps=1 {' '.join(TINY)}"
MEASURED = "callbacks=quality callbacks.quality.num_samples=20 callbacks.progress=null"
MEASURED += " 'callbacks.quality.features={_target_: tests.support.features.Projected}'"


def run(folder: Path, *arguments: str) -> list[dict]:
    race.main([str(folder), *arguments])
    return json.loads((folder / "race.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def own_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let tests in other processes race at the same time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a race of two on 640 images."""
    folder = tmp_path_factory.mktemp("race")
    run(folder, "--images", "640", "--seeds", "3,4", f"slow: {TOLD} optimizer.lr=1e-9", f"fast: {TOLD} {MEASURED}")
    return folder


@pytest.mark.slow
def test_contestants_see_as_many_images_and_are_told_apart(folder: Path) -> None:
    slow, fast = json.loads((folder / "race.json").read_text())
    assert [len(contestant["runs"]) for contestant in (slow, fast)] == [2, 2]
    for contestant in (slow, fast):
        assert [run["images"] for run in contestant["runs"]] == [640, 640]
        assert [run["seed"] for run in contestant["runs"]] == [3, 4]
        assert all(point["images"] == 640 for run in contestant["runs"] for point in run["curve"][-1:])
    assert fast["runs"][0]["test_bits_per_dim"] < slow["runs"][0]["test_bits_per_dim"]


@pytest.mark.slow
def test_the_table_has_means_over_seeds_and_the_gain_over_the_first(folder: Path) -> None:
    header, _, slow, fast, *_ = (folder / "race.md").read_text().splitlines()
    row = dict(zip(header.split(" | "), fast.split(" | "), strict=True))
    runs = json.loads((folder / "race.json").read_text())[1]["runs"]
    assert float(row["val bits/dim"]) == pytest.approx(sum(run["val_bits_per_dim"] for run in runs) / 2, abs=6e-4)
    assert float(row["gain"]) > 0 and "+0.000" in slow
    assert float(row["val FD |"].rstrip(" |")) == pytest.approx(sum(run["val_fd"] for run in runs) / 2, abs=6e-3)
    assert slow.endswith("|  |")
    with Image.open(folder / "race.png") as picture:
        assert picture.width > 1000


def test_a_table_says_when_each_contestant_is_as_good_as_another_at_its_end() -> None:
    def one(name: str, *curves: list[float]) -> race.Contestant:
        """Validated once per minute."""
        points = [[Point(60 * (k + 1), k, bits, bits) for k, bits in enumerate(curve)] for curve in curves]
        runs = [
            Run(name, "completed", summary={"val_bits_per_dim": curve[-1]}, curve=made)
            for curve, made in zip(curves, points, strict=True)
        ]
        return race.Contestant(name, [], runs)

    fast, slow = one("fast", [4.0, 3.0, 2.0], [3.0, 2.5, 2.0]), one("slow", [5.0, 4.0, 3.5], [5.0, 4.5, 4.0])
    header, _, *rows = race.time_to_quality([fast, slow])
    assert header == ["minutes until", "2.000 (fast)", "3.750 (slow)"]
    assert rows == [["fast", "3.0", "1.5"], ["slow", "", ""]]  # one of two slow runs does not come to their mean


@pytest.mark.slow
def test_the_same_command_runs_nothing_again(folder: Path) -> None:
    before = (folder / "slow/seed-3/metrics.csv").stat().st_mtime_ns
    run(folder, "--images", "640", "--seeds", "3,4", f"slow: {TOLD} optimizer.lr=1e-9", f"fast: {TOLD}")
    assert (folder / "slow/seed-3/metrics.csv").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_race_of_seconds_validates_on_the_way_and_leaves_the_test_set_unread_if_told(tmp_path: Path) -> None:
    ((one,),) = [contestant["runs"] for contestant in run(tmp_path, "--seconds", "3", "--no-test", f"one: {TOLD}")]
    assert "test_bits_per_dim" not in one
    assert len(one["curve"]) >= 2
    assert 3 <= one["curve"][-1]["seconds"] < 6


@pytest.mark.slow
def test_a_contestant_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    arguments = ["--images", "320", f"bad: {TOLD} optimizer.lr=1e30", f"good: {TOLD}"]
    with pytest.raises(SystemExit, match="1"):
        race.main([str(tmp_path), *arguments])
    text = (tmp_path / "race.md").read_text()
    assert "bad, seed 0 failed: training diverged at step" in text
    assert json.loads((tmp_path / "race.json").read_text())[1]["runs"][0]["status"] == "completed"


def test_two_races_do_not_run_at_once(tmp_path: Path) -> None:
    with (
        FileLock(Path(tempfile.gettempdir()) / "image-flows-race.lock"),
        pytest.raises(SystemExit, match="another race is on this machine"),
    ):
        race.main([str(tmp_path), "--images", "320", f"one: {TOLD}"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--images", "320", "optimizer.lr=1"], "not of the form 'NAME: OVERRIDES'"),
        (["--images", "320", "a: seed=1", "a: seed=2"], "each contestant needs a name of its own"),
        (["a: seed=1"], "one of the arguments --seconds --images is required"),
    ],
)
def test_wrong_use_is_told(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        race.main([str(tmp_path), *arguments])
    assert complaint in capsys.readouterr().err
