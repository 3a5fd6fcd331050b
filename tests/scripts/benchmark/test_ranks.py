"""One process, separate processes and ranks are measured side by side."""

import pytest

from scripts.benchmark import ranks, scale


def test_speeds_are_compared_with_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    speeds = {
        (1, 1, 1): [90.0, 100.0, 500.0],
        (1, 1, 4): [350.0, 340.0, 330.0],
        (4, 1, 1): [300.0, 310.0, 320.0],
        (1, 4, 1): [280.0, 250.0, 290.0],
    }
    monkeypatch.setattr(ranks, "speed", lambda runs, world, threads, steps: speeds[runs, world, threads].pop())
    ranks.main(["--ranks", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "| one process | 1 | 1 | 100 | 1.00x |",
        "| one process, all threads | 1 | 4 | 340 | 3.40x |",
        "| separate processes | 4 | 1 | 310 | 3.10x |",
        "| ranks | 4 | 1 | 280 | 2.80x |",
    ]


def test_nothing_to_measure_is_refused(capsys: pytest.CaptureFixture) -> None:
    for main, words in ((ranks.main, ["--rounds", "0"]), (scale.main, ["folder", "--repeats", "0"])):
        with pytest.raises(SystemExit):
            main(words)
        assert "at least 1, got" in capsys.readouterr().err


@pytest.mark.ranks
@pytest.mark.slow
def test_two_ranks_are_measured() -> None:
    assert ranks.speed(runs=1, ranks=2, threads=1, steps=2) > 0


@pytest.mark.slow
def test_a_run_that_fails_shows_its_error() -> None:
    with pytest.raises(SystemExit, match="max_steps"):
        ranks.speed(runs=2, ranks=1, threads=1, steps=-7)
