"""The summary of a run, and metrics that go on."""

import csv
import json
from pathlib import Path

import pytest

from flows.training import MetricsCSV, RunSummary, read_summary


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "completed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(1), "interrupted"), (OSError(), "failed")],
    ids=str,
)
def test_a_summary_says_how_the_run_ended(error: BaseException | None, status: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    try:
        with RunSummary(path, resumed=False, seed=5):
            assert read_summary(path)["status"] == "running"
            if error is not None:
                raise error
    except BaseException as caught:
        assert caught is error
    assert read_summary(path)["status"] == status
    assert read_summary(path)["seed"] == 5


def test_wall_seconds_add_up_over_the_parts_of_a_run_only(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"wall_seconds": 100.0}))
    with RunSummary(path, resumed=True):
        pass
    assert read_summary(path)["wall_seconds"] >= 100
    with RunSummary(path, resumed=False):
        pass
    assert read_summary(path)["wall_seconds"] < 100


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_of_a_resumed_run_replace_only_what_it_logs_again(tmp_path: Path) -> None:
    first = MetricsCSV(str(tmp_path))
    for step in range(5):
        first.log_metrics({"loss": float(step)}, step)
    resumed = MetricsCSV(str(tmp_path))
    assert resumed.experiment.path.exists()
    assert len(read(tmp_path)) == 5
    for step in range(3, 7):
        resumed.log_metrics({"loss": 10.0 * step, "new": 1.0}, step)
    rows = read(tmp_path)
    assert [float(row["loss"]) for row in rows] == [0, 1, 2, 30, 40, 50, 60]
    assert [row["new"] for row in rows] == ["", "", "", "1.0", "1.0", "1.0", "1.0"]
