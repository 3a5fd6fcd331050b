"""The lines that a run logs for people, and how long it says that it will still take."""

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import build
from flows.training import LitFlow, Muon, WarmupDecay
from flows.training.callbacks.time_left import TimeLeft, duration
from tests.support.run import run_training

ROOT = Path(__file__).parents[3]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("journal")]


def test_what_starts_each_validation_and_the_end_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run_training(tmp_path, "trainer.max_steps=20", "trainer.max_epochs=-1", "trainer.val_check_interval=10")
    first, *validations, last = lines(caplog)
    assert re.fullmatch(
        rf"training Glow of [\d,]+ parameters on 1,300 images, in .*{tmp_path.name}; it ends by trainer.max_steps=20",
        first,
    )
    assert len(validations) == 2
    form = r"step {}, epoch {}: \d+\.\d{{4}} bits/dim on 200 validation images, \d+ images/s, \d+ s left"
    assert re.fullmatch(form.format(10, "0.2"), validations[0])
    assert re.fullmatch(form.format(20, "0.5"), validations[1]) and ", 0 s left" in validations[1]
    assert re.fullmatch(r"training has ended after 20 steps and \d+ s", last)


def test_the_first_rank_alone_asks_for_the_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would not answer: only the schedule, once a step, may average over the ranks."""
    caplog.set_level(logging.INFO)
    asked = []
    monkeypatch.setattr("flows.training.lit.mean_over_ranks", lambda value: asked.append(value) or value)
    run_training(tmp_path, "trainer.max_time=00:01:00:00", "trainer.max_steps=6", "trainer.val_check_interval=2")
    journal, with_it = lines(caplog), len(asked)
    asked.clear()
    run_training(
        tmp_path / "without",
        "trainer.max_time=00:01:00:00",
        "trainer.max_steps=6",
        "trainer.val_check_interval=2",
        "callbacks.journal=null",
    )
    assert any("left" in line for line in journal) and len(asked) == with_it > 6


def test_all_limits_are_named_and_a_resumed_run_says_what_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits = ["trainer.max_epochs=9", "callbacks.throughput.max_images=320", "callbacks.throughput.max_seconds=60"]
    run_training(tmp_path, *limits)
    (first,) = (line for line in lines(caplog) if line.startswith("training Glow"))
    for limit in limits:
        assert limit in first
    caplog.clear()
    run_training(tmp_path, *limits[:1], "callbacks.throughput.max_images=640", "resume=auto")
    (first,) = (line for line in lines(caplog) if line.startswith("training Glow"))
    assert first.endswith(", 10 steps are done")


def test_a_run_that_fails_says_by_what(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(FloatingPointError):
        run_training(tmp_path, "optimizer=adam", "optimizer.lr=1e30", "trainer.max_steps=20")
    assert re.fullmatch(r"FloatingPointError ended training after \d+ steps", lines(caplog)[-1])


def test_the_time_left_is_that_of_the_steps_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("flows.training.callbacks.time_left.time", SimpleNamespace(monotonic=lambda: clock.now))
    flow = build("glow", image_shape=(1, 8, 8), num_levels=1, num_steps=1, hidden_channels=4)
    lit = LitFlow(flow, optimizer=Muon, schedule=WarmupDecay())
    monkeypatch.setattr(lit, "progress_here", lambda step: step / 100)
    trainer: Any = SimpleNamespace(global_step=40)
    left = TimeLeft(trainer, lit)
    assert left.seconds() is None, "nothing is known yet"
    trainer.global_step, clock.now = 60, 110.0
    assert left.done() == pytest.approx(0.6) and left.seconds() == pytest.approx(20.0)
    trainer.global_step, clock.now = 100, 130.0
    assert left.seconds() == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (89, "89 s"),
        (720, "12 min"),
        (3_599, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (187_200, "2 days 4 h"),
    ],
)
def test_durations_are_said_in_one_or_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("script") is None, reason="needs the command script, which makes a terminal")
def test_the_bar_shows_the_whole_run_and_lines_of_the_log_above_it(tmp_path: Path) -> None:
    """On a terminal, which `script` provides."""
    told = "data=digits model.num_steps=1 model.hidden_channels=4 trainer.max_steps=30 trainer.max_epochs=-1"
    command = f"{sys.executable} {ROOT / 'train.py'} {told} callbacks.grids=null run_id=mine"
    shown = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    ).stdout
    assert "100%" in shown and "bits/dim" in shown and "0 s left" in shown
    assert len(re.findall(r"training has ended after 30 steps", shown)) == 1
    assert "training has ended after 30 steps" in (tmp_path / "outputs/mine/train.log").read_text()
