"""check=true: what a run would be, with one step or none, and nothing left behind."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

import train
from tests.support.run import CONF, TINY, run_training

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPUs are here")


PROJECTED = "callbacks.quality.features={_target_: tests.support.features.Projected}"


def check(folder: Path, *overrides: str) -> Any:
    return run_training(folder / "run", "check=true", *overrides)


def test_one_step_is_taken_and_nothing_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tmp_path, "callbacks=quality", PROJECTED, "callbacks.quality.num_samples=1000", "trainer.max_epochs=3")
    shown = capsys.readouterr().out
    assert "images                       1,300 train, 200 val, 297 test\n" in shown
    assert re.search(r"GiB on each device +\S+ \(weights", shown)
    assert re.search(r"hours of the whole run +\S+ by trainer.max_epochs=3\n", shown)
    assert re.search(r"one training step +\d+\.\d\d s, \d+\.\d{3} bits/dim\n", shown)
    assert re.search(r"one validation batch +\d+\.\d\d s, 200 images, \d+\.\d{3} bits/dim\n", shown)
    assert re.search(r"GiB at the peak +\d+\.\d\d of this process\n", shown)
    assert not list((tmp_path / "run").iterdir())


@no_gpu
def test_without_the_gpus_no_step_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build_lit", pytest.fail)
    check(tmp_path, "trainer=ddp", "trainer.devices=8", "data.batch_size=64")
    shown = capsys.readouterr().out
    assert "no step: the GPUs are not here" in shown and "of 80 GiB of each would be used" in shown
    assert "data.batch_size=64 on 8 devices" in shown
    with pytest.raises(ValueError, match=r"needs \S+ GiB on each device, and gpu_gib is 1e-06: lower data.batch_size"):
        check(tmp_path, "trainer=gpu", "gpu_gib=1e-6")


@no_gpu
def test_no_step_is_taken_that_the_memory_of_a_cpu_is_too_small_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build_lit", pytest.fail)
    monkeypatch.setattr(import_module("flows.training.forecast"), "memory_gib", lambda: 1e-4)
    check(tmp_path, "trainer=auto")
    shown = capsys.readouterr().out
    assert "no step: this machine has" in shown and "lower data.batch_size, set model.memory_flat=true" in shown


@no_gpu
def test_a_batch_that_the_gpus_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 32 counts the images of all ranks and cannot be shared equally"):
        check(tmp_path, "trainer=ddp", "trainer.devices=5")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resume=auto"], "check=true checks a new run: leave resume out"),
        (["objective=fd"], "objective=fd compares samples, which this run does not measure"),
        (["callbacks=quality"], r"the features of Fashion-MNIST read images of \(1, 28, 28\)"),
        (["callbacks=quality", PROJECTED, "data.num_val=5"], "5 validation images are too few for 6 features"),
        (["model.num_classes=5"], "model.num_classes is 5, but data.num_classes is 10"),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(tmp_path, *overrides)


@pytest.mark.slow
def test_from_the_shell_no_file_stays_and_sweeps_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(CONF).parent / "train.py"), *TINY, "check=true"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "nothing of this is kept" in shown
    assert not list(tmp_path.iterdir())
    swept = subprocess.run([*command, "-m", "seed=0,1"], cwd=tmp_path, capture_output=True, text=True)
    assert swept.returncode == 1
    assert swept.stderr.strip() == "error: check=true checks one run: leave -m and the swept values out"
    assert not list(tmp_path.iterdir())


FULL_SIZE = ["trainer=cpu", "data.source=generated", "data.batch_size=2", "data.eval_batch_size=2", "data.num_val=4"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glow_cifar10", "realnvp_imagenet64"])
def test_an_experiment_of_a_paper_takes_a_step_at_full_size(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"experiment={name}", "check=true", f"run_dir={tmp_path}", "training.num_init_images=2"]
    with initialize_config_dir(CONF, version_base="1.3"):
        train.main(compose("train", [*settings, *FULL_SIZE, "data.num_workers=0"]))
    assert "one training step" in capsys.readouterr().out
