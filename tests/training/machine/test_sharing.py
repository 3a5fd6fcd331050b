"""Processes that share the work of one command do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from torch import Tensor

import sample
from flows.training import save_png
from flows.training.machine.sharing import Share
from flows.training.quality.so_far import write_so_far
from scripts import evaluate, quality
from tests.support.command_line import ROOT
from tests.support.run import CONF, run_training


def test_items_are_shared_by_turns() -> None:
    items = list(range(7))
    assert [[*Share(rank, 3).of(items)] for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert Share().of(items) == Share().gathered(items) == items


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=1", "model.num_classes=10")
    return folder


def call(folder: Path, processes: int, *command: str) -> None:
    """Run a script in processes that torchrun starts, or alone."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"] if processes > 1 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def pictures(folder: Path) -> dict[Path, bytes]:
    """Return the content of each picture below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.ranks
def test_samples_are_those_of_one_process(run_dir: Path, tmp_path: Path) -> None:
    told = ["num_samples=11", "batch_size=4", "temperature=[0.5,1]", "device=cpu"]
    for count in (1, 3):
        call(tmp_path, count, str(ROOT / "sample.py"), f"ckpt={run_dir}/best.safetensors", f"out=by-{count}", *told)
    one, many = (pictures(tmp_path / f"by-{count}") for count in (1, 3))
    assert len(one) == 23 and one == many


@pytest.mark.ranks
def test_samples_that_one_process_began_are_those_of_one_process(run_dir: Path, tmp_path: Path) -> None:
    told = [f"ckpt={run_dir}/best.safetensors", "num_samples=11", "batch_size=2", "temperature=[0.5,1]", "device=cpu"]
    call(tmp_path, 1, str(ROOT / "sample.py"), *told, "out=by-one")
    written = []

    def save(picture: Tensor, path: Path) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        save_png(picture, path)

    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(CONF, version_base="1.3"):
        patch.setattr(sample, "save_png", save)
        with pytest.raises(KeyboardInterrupt):
            sample.main(compose("sample", [*told, f"out={tmp_path}/by-both"]))
    before = {path: path.stat().st_mtime_ns for path in written[:6]}
    call(tmp_path, 3, str(ROOT / "sample.py"), *told, "out=by-both")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    one, both = (pictures(tmp_path / f"by-{name}") for name in ("one", "both"))
    assert len(one) == 23 and one == both
    assert not list((tmp_path / "by-both").glob("unfinished*"))


@pytest.mark.ranks
def test_figures_are_those_of_one_process(run_dir: Path, tmp_path: Path) -> None:
    ckpt = f"ckpt={run_dir}/best.safetensors"
    few = "data.eval_batch_size=50"
    features = "features={_target_: tests.support.features.Projected}"
    measured = ["num_samples=60", "batch_size=16", "temperature=[0.7,1]", features]
    for name, main, settings in ("evaluate", evaluate.main, ["num_draws=2"]), ("quality", quality.main, measured):
        told = [ckpt, "data=digits", few, "device=cpu", *settings]
        outs = [f"out={tmp_path}/{name}-{count}{'.json' if name == 'evaluate' else ''}" for count in (1, 2)]
        with initialize_config_dir(CONF, version_base="1.3"):
            main(compose(name, [*told, outs[0]]))
        call(tmp_path, 2, str(ROOT / f"scripts/{name}.py"), *told, outs[1])
    results = [json.loads((tmp_path / f"evaluate-{count}.json").read_text()) for count in (1, 2)]
    assert results[1]["bits_per_dim"] == pytest.approx(results[0]["bits_per_dim"], rel=1e-6)
    assert results[1]["images"] == results[0]["images"] == 297
    one, two = (json.loads((tmp_path / f"quality-{count}/quality.json").read_text()) for count in (1, 2))
    for row, other in zip(one["rows"], two["rows"], strict=True):
        assert other.keys() == row.keys()
        for name, value in row.items():
            assert other[name] == (None if value is None else pytest.approx(value, rel=1e-4)), name
    assert pictures(tmp_path / "quality-1").keys() == pictures(tmp_path / "quality-2").keys()
    assert pictures(tmp_path / "quality-1")[Path("best.png")] == pictures(tmp_path / "quality-2")[Path("best.png")]


@pytest.mark.ranks
def test_processes_go_on_where_one_was_interrupted(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [f"ckpt={run_dir}/best.safetensors", "data=digits", "device=cpu", "num_samples=60", f"out={tmp_path}/out"]
    told += ["temperature=[0.7,1]", "features={_target_: tests.support.features.Projected}"]

    def interrupt(*args: Any) -> None:
        write_so_far(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(quality, "write_so_far", interrupt)
    with initialize_config_dir(CONF, version_base="1.3"), pytest.raises(KeyboardInterrupt):
        quality.main(compose("quality", told))
    partial = tmp_path / "out/quality.partial.json"
    stored = json.loads(partial.read_text())
    (one,) = stored["sets"]
    one["figures"]["fd"] = 123.0
    partial.write_text(json.dumps(stored))
    call(tmp_path, 2, str(ROOT / "scripts/quality.py"), *told)
    _, row, _ = json.loads((tmp_path / "out/quality.json").read_text())["rows"]
    assert row["fd"] == 123.0  # what was measured already is not measured again
