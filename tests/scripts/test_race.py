"""Racing configs against each other."""

import json
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from hydra import compose, initialize_config_dir
from PIL import Image

from flows.training import read_run
from scripts import race
from tests.support.run import CONF, TINY

TOLD = f"model.num_steps=1 {' '.join(TINY)}"
MEASURED = "callbacks=quality callbacks.quality.num_samples=20 callbacks.progress=null"
MEASURED += " 'callbacks.quality.features={_target_: tests.support.features.Projected}'"


ARGUMENTS = ["--images", "640", "--seeds", "3,4", f"slow: {TOLD} optimizer.lr=1e-9", f"fast: {TOLD} {MEASURED}"]


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
    run(folder, *ARGUMENTS)
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


@pytest.mark.slow
def test_the_same_command_runs_nothing_again(folder: Path) -> None:
    before = (folder / "slow/seed-3/metrics.csv").stat().st_mtime_ns
    run(folder, *ARGUMENTS)
    assert (folder / "slow/seed-3/metrics.csv").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_command_with_other_settings_runs_nothing_and_keeps_the_results(folder: Path) -> None:
    before = (folder / "race.json").read_text()
    other = f"slow: {TOLD} optimizer.lr=2e-9"
    for arguments, complaint in (
        (["--images", "640", "--seeds", "3,4", other, ARGUMENTS[-1]], r"optimizer.lr was 1e-09 and is 2e-09"),
        ([*ARGUMENTS, "--no-test"], "test was True and is False"),
        (["--images", "640", "--seeds", "3,4", ARGUMENTS[-1]], "would drop .slow, seed 3; slow, seed 4.: give these"),
        (["--images", "640", "--seeds", "4", *ARGUMENTS[-2:]], "would drop .slow, seed 3; fast, seed 3."),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{complaint}"):
            race.main([str(folder), *arguments])
    assert (folder / "race.json").read_text() == before


@pytest.mark.slow
def test_a_race_of_seconds_validates_on_the_way_and_leaves_the_test_set_unread_if_told(tmp_path: Path) -> None:
    ((one,),) = [contestant["runs"] for contestant in run(tmp_path, "--seconds", "3", "--no-test", f"one: {TOLD}")]
    assert "test_bits_per_dim" not in one
    assert len(one["curve"]) >= 2
    assert 3 <= one["curve"][-1]["seconds"] < 6


@pytest.mark.slow
def test_a_contestant_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    arguments = ["--images", "320", f"bad: {TOLD} optimizer.lr=1e30", f"good: {TOLD}"]
    with pytest.raises(SystemExit, match=r"^1$"):
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


def test_all_users_of_the_machine_share_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        with race.alone_on_this_machine():
            assert stat.S_IMODE((tmp_path / "image-flows-race.lock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_a_lock_that_cannot_be_opened_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "image-flows-race.lock").mkdir()
    told = r"error: .*race.lock, which keeps a second race away, cannot be opened \(Is a directory\): let its owner"
    with pytest.raises(SystemExit, match=told):
        race.main([str(tmp_path / "race"), "--images", "320", f"one: {TOLD}"])


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a race has given, none of which did anything."""
    commands: list[list[str]] = []
    monkeypatch.setattr(race, "run_to_end", lambda command: commands.append(command) or 0)
    return commands


def make_run(folder: Path, overrides: list[str], summary: dict[str, Any]) -> None:
    """Write what a run with these overrides leaves."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "summary.json").write_text(json.dumps({"status": "completed", **summary}))


def limits(*arguments: str) -> list[str]:
    return race.limits(race.parse(["folder", *arguments, "one: compile=true"]))


@pytest.mark.parametrize("name", ["glow, wide", "a=b", "${x}", "50%"])
def test_a_name_of_any_characters_is_that_of_a_folder(training: list[list[str]], tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit):
        race.main([str(tmp_path), "--images", "320", f"{name}: optimizer.lr=1e-3"])
    (command,) = training
    with initialize_config_dir(CONF, version_base="1.3"):
        found = compose("train", command[2:], return_hydra_config=True)
    assert found.hydra.run.dir == str(tmp_path / name / "seed-0")


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (["--images", "320", "one: optimizer.lr=2e-3"], "optimizer.lr was 0.001 and is 0.002"),
        (["--images", "320", "one: compile=true"], "optimizer.lr was 0.001 and is not given"),
        (["--images", "320", "one: optimizer.lr=1e-3 compile=true"], "compile was not given and is True"),
        (["--images", "640", "one: optimizer.lr=1e-3"], "callbacks.throughput.max_images was 320 and is 640"),
        (["--seconds", "9", "one: optimizer.lr=1e-3"], "callbacks.throughput.max_seconds was None and is 9.0"),
    ],
)
def test_nothing_is_trained_if_a_folder_holds_a_run_of_other_settings(
    training: list[list[str]], tmp_path: Path, now: list[str], difference: str
) -> None:
    before = ["optimizer.lr=1e-3", *limits("--images", "320"), "seed=0", "resume=auto"]
    make_run(tmp_path / "one/seed-0", before, {"val_bits_per_dim": 4.0})
    message = f"error: .*one/seed-0 holds a run of other settings .*{difference}.*: take another race folder, or"
    with pytest.raises(SystemExit, match=message):
        race.main([str(tmp_path), "two: optimizer.lr=1e-3", *now])
    assert training == [] and not (tmp_path / "race.json").exists()


def test_equal_settings_go_on_whatever_their_spelling_and_may_be_tested_now(
    training: list[list[str]], tmp_path: Path
) -> None:
    before = ["optimizer.lr=1e-3", "~callbacks", *limits("--images", "320", "--no-test"), "seed=0"]
    make_run(tmp_path / "one/seed-0", before, {"val_bits_per_dim": 4.0})
    run(tmp_path, "--images", "320", "one: callbacks=null optimizer.lr=0.001")
    assert len(training) == 1


def test_a_complete_run_that_is_refused_gives_no_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(race, "run_to_end", lambda command: 1)
    make_run(tmp_path / "one/seed-0", [*limits("--images", "320"), "seed=0"], {"val_bits_per_dim": 4.125})
    with pytest.raises(SystemExit, match=r"^1$"):
        run(tmp_path, "--images", "320", "one: ")
    assert json.loads((tmp_path / "race.json").read_text())[0]["runs"][0]["status"] == "refused"
    assert "one, seed 0 refused: train.py ended with status 1 in" in (tmp_path / "race.md").read_text()
    assert all("4.125" not in (tmp_path / name).read_text() for name in ("race.json", "race.md"))


@pytest.mark.parametrize("text", ["[", '[{"runs": [{}]}]', "{}x", "3"])
def test_a_damaged_table_of_an_earlier_race_is_told(training: list[list[str]], tmp_path: Path, text: str) -> None:
    (tmp_path / "race.json").write_text(text)
    with pytest.raises(SystemExit, match=r"error: .*race.json is damaged .*: remove it, or take another race folder"):
        run(tmp_path, "--images", "320", "one: compile=true")


def test_damaged_overrides_of_a_run_are_told(training: list[list[str]], tmp_path: Path) -> None:
    make_run(tmp_path / "one/seed-0", ["compile=true", "seed=0"], {})
    (tmp_path / "one/seed-0/.hydra/overrides.yaml").write_text("- [")
    with pytest.raises(SystemExit, match=r"error: .*overrides.yaml is damaged: take another race folder, or remove"):
        run(tmp_path, "--images", "320", "one: compile=true")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_race_that_is_stopped_stores_its_run_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run_dir = tmp_path / "race/one/seed-0"

    def stop_in_training() -> None:
        while not (run_dir / "metrics.csv").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), number)

    arguments = [str(tmp_path / "race"), "--images", "30000", "--no-test", f"one: {TOLD}"]
    threading.Thread(target=stop_in_training).start()
    with pytest.raises(SystemExit, match="130"):
        race.main(arguments)
    assert read_run(run_dir, "one").status == "interrupted" and (run_dir / "checkpoints/last.ckpt").exists()
    race.main(arguments)
    summary = read_run(run_dir, "one").summary
    assert summary["status"] == "completed" and summary["first_step"] > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--images", "320", "a: nonsense"], "a: 'nonsense' is not of the form KEY=VALUE"),
        (["--images", "320", "a: compile=[1"], "a: "),
        (["--images", "320", "--goals", "3,nan", "a: compile=true"], "--goals are finite numbers, got 3.0,nan"),
        (["--images", "320", "--goals", "x", "a: compile=true"], "'x' is not a list of numbers such as 3.1,2.9"),
        (["--images", "320", "--seeds", "1,two", "a: compile=true"], "'1,two' is not a list of numbers such as 0,1,2"),
        (["--images", "320", "--validations", "0", "a: compile=true"], "--validations is at least 1, got 0"),
        (
            ["--images", "320", "--seeds", "0,1,0", "a: compile=true"],
            "--seeds are different numbers of at least 0, got 0,1,0",
        ),
        (["--images", "320", "--seeds=-1", "a: compile=true"], "--seeds are different numbers of at least 0, got -1"),
        (["--images", "0", "a: compile=true"], "--images is a number above 0, got 0"),
        (["--seconds", "-3", "a: compile=true"], "--seconds is a number above 0, got -3"),
        (["--seconds", "nan", "a: compile=true"], "--seconds is a number above 0, got nan"),
        (["--seconds", "inf", "a: compile=true"], "--seconds is a number above 0, got inf"),
        (["--images", "320", "optimizer.lr=1"], "not of the form 'NAME: OVERRIDES'"),
        (["--images", "320", "a: compile=true", "a: compile=false"], "each contestant needs a name of its own"),
        (["--images", "320", "a: seed=1 test=true"], "a: the race itself chooses seed, test: leave this out"),
        (
            ["--seconds", "9", "a: trainer.val_check_interval=5"],
            "a: the race itself chooses trainer.val_check_interval",
        ),
        (["--images", "320", "..: compile=true"], "not of the form 'NAME: OVERRIDES'"),
        (["a: compile=true"], "one of the arguments --seconds --images is required"),
    ],
)
def test_wrong_use_is_told(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        race.main([str(tmp_path), *arguments])
    assert complaint in capsys.readouterr().err
