"""TFLOP/s, from counted operations."""

import csv
import logging
from pathlib import Path

import pytest
import torch

import flows
from flows.training import estimate
from tests.support.run import run_training


def tflops(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        return [float(row["train/tflops"]) for row in csv.DictReader(file) if row.get("train/tflops")]


def test_tflops_are_images_per_second_times_counted_operations(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_steps=6", "trainer.max_epochs=-1", "trainer.val_check_interval=3", "test=false")
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/tflops")]
    spec = flows.load(tmp_path / "best.safetensors").spec
    with torch.device("meta"):
        gflop = estimate(flows.build(**spec)).gflop
    assert len(rows) == 2
    for row in rows:
        speed = float(row["train/images"]) / float(row["train/seconds"])
        assert float(row["train/tflops"]) == pytest.approx(gflop * speed / 1000, rel=1e-4)


def test_a_model_that_cannot_be_counted_trains_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(flow: object) -> None:
        raise RuntimeError("it looks at values")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("flows.training.callbacks.hardware_use.estimate", refuse)
    run_training(tmp_path, "trainer.max_steps=4", "trainer.max_epochs=-1", "trainer.val_check_interval=2", "test=false")
    told = [record.getMessage() for record in caplog.records if "TFLOP/s" in record.getMessage()]
    assert told == ["TFLOP/s are not logged, as the operations of the model cannot be counted: it looks at values"]
    assert not tflops(tmp_path)
