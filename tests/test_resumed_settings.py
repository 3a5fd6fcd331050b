"""What a resumed run does with other settings, by the table of the README: it obeys them, or refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flows.training import load_flow, read_summary
from tests.callbacks import DamageGradient
from tests.run import run_training
from tests.same_run import read_metrics

SMALL = [
    "data.batch_size=256",
    "training.schedule.warmup_steps=0",
    "training.schedule.decay_fraction=0",
    "callbacks.grids=null",
    "test=false",
]
"""Five steps an epoch, at one learning rate."""
REALNVP = ["model=realnvp", "model.num_blocks=1"]
OPTIMIZERS = {
    "muon": ["optimizer=muon"],
    "adam": ["optimizer=adam"],
    "adamw": ["optimizer=adamw"],
    "adamax": ["optimizer=adamax"],
    "adam_decayed_scales": ["optimizer=adam_decayed_scales", *REALNVP],
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder of a run of one epoch with an optimizer, made at the first call."""
    made: dict[str, Path] = {}

    def run(optimizer: str = "muon") -> Path:
        if optimizer not in made:
            made[optimizer] = tmp_path_factory.mktemp(optimizer)
            run_training(made[optimizer], *SMALL, *OPTIMIZERS[optimizer], "trainer.max_epochs=1")
        return made[optimizer]

    return run


def last(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)


def rates(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        (column,) = {name.split("/")[0] for name in file.readline().strip().split(",") if name.startswith("lr-")}
    names = [column] if "decayed" not in str(run_dir) else [f"{column}/pg1", f"{column}/pg2"]
    return [rate for name in names for rate in read_metrics(run_dir, name)]


CHANGES = [
    ("muon", {"lr": 1e-5, "betas": [0.8, 0.9]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.8,0.9]"]),
    ("adam", {"lr": 1e-5, "eps": 1e-4}, ["optimizer.lr=1e-5", "+optimizer.eps=1e-4"]),
    ("adam", {"weight_decay": 0.3}, ["+optimizer.weight_decay=0.3"]),
    ("adamw", {"lr": 3e-5, "weight_decay": 0.5}, ["optimizer.lr=3e-5", "optimizer.weight_decay=0.5"]),
    ("adamax", {"lr": 1e-5, "betas": [0.5, 0.6]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.5,0.6]"]),
    ("adam_decayed_scales", {"lr": 2e-5}, ["optimizer.optimizer.lr=2e-5"]),
]


@pytest.mark.parametrize(("optimizer", "asked", "overrides"), CHANGES, ids=lambda value: str(value))
def test_settings_of_the_optimizer_are_obeyed_and_its_moments_stay(
    optimizer: str, asked: dict[str, Any], overrides: list[str], begun: Any, tmp_path: Path
) -> None:
    before = last(begun(optimizer))
    run_dir = tmp_path / optimizer
    resume = f"resume={begun(optimizer)}/checkpoints/last.ckpt"
    run_training(run_dir, *SMALL, *OPTIMIZERS[optimizer], *overrides, "trainer.max_epochs=2", resume)
    after = last(run_dir)
    for group in after["optimizer_states"][0]["param_groups"]:
        for name, value in asked.items():
            assert list(group[name]) == value if isinstance(value, list) else group[name] == value, name
    if "lr" in asked:
        assert set(rates(run_dir)) == {asked["lr"]}
    steps = {float(state["step"]) for state in after["optimizer_states"][0]["state"].values() if state["step"] > 0}
    assert steps == {10.0}
    assert before["global_step"] == 5 and after["global_step"] == 10
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
