"""Runs that start from the weights of another flow."""

from pathlib import Path

import pytest
import torch

from flows.training import load_flow, read_summary
from tests.support.run import run_training

RUN = ["model.num_classes=10", "trainer.max_epochs=-1", "callbacks.grids=null"]
STILL = ["optimizer=adam", "optimizer.lr=1e-12", "callbacks.ema=null", "trainer.max_steps=2"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    run_training(folder, *RUN, "trainer.max_steps=30")
    return folder


@pytest.mark.parametrize("file", ["best.safetensors", "checkpoints/last.ckpt"])
def test_a_run_starts_where_the_other_one_ended(source: Path, tmp_path: Path, file: str) -> None:
    run_training(tmp_path, *RUN, *STILL, f"init_from={source}/{file}")
    before, now = (read_summary(folder / "summary.json") for folder in (source, tmp_path))
    assert now["val_bits_per_dim"] == pytest.approx(before["val_bits_per_dim"], abs=1e-4)
    assert now["init_from"] == f"{source}/{file}" and now["new_weights"] == [] and now["steps"] == 2


def test_new_parts_are_initialised_and_the_others_stay(source: Path, tmp_path: Path) -> None:
    first = "multiscale.levels.0.bijections.0.logits"
    told = [f"init_from={source}/best.safetensors", f"init_skip=[{first}]"]
    run_training(tmp_path, *RUN, *STILL, *told)
    assert read_summary(tmp_path / "summary.json")["new_weights"] == [first]
    before, now = (load_flow(folder / "best.safetensors").state_dict() for folder in (source, tmp_path))
    for name, value in now.items():
        close = torch.allclose(value, before[name], atol=1e-6)
        assert close == (name != first), name


def test_a_resumed_run_goes_on_from_its_own_weights(source: Path, tmp_path: Path) -> None:
    told = [*RUN, f"init_from={source}/best.safetensors", "training.schedule.decay_fraction=0"]
    run_training(tmp_path / "whole", *told, "trainer.max_steps=20")
    run_training(tmp_path / "parts", *told, "trainer.max_steps=10")
    run_training(tmp_path / "parts", *told, "trainer.max_steps=20", "resume=auto")
    whole, parts = (load_flow(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["init_strict=false"], "init_strict and init_skip say what to take from init_from"),
        (["init_skip=[a]"], "give init_from, too"),
        (["init_from=nosuch.safetensors"], "nosuch.safetensors"),
        (["init_from=fashion_mnist"], "has other weights than the model.*init_strict=false"),
        (["init_strict=maybe"], "init_strict should be a valid boolean"),
    ],
    ids=str,
)
def test_wrong_use_is_told(told: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=says):
        run_training(tmp_path, *told)
