"""Every shipped config composes and makes the object it describes."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from data import ImageData
from flows.image_flow import ImageFlow
from flows.training import LitFlow, check_config
from tests.support.run import CONF

NOT_ALONE = {("data", "loader")}
"""Configs that others are made from."""


def choices(group: str) -> list[str]:
    names = sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))
    return [name for name in names if (group, name) not in NOT_ALONE]


def composed(tmp_path: Path, *overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [f"run_dir={tmp_path}", f"data_root={tmp_path}", *overrides])


GROUPS = [path.name for path in sorted(Path(CONF).iterdir()) if path.is_dir() and path.name not in ("features", "edit")]
ALL = [(group, choice) for group in GROUPS for choice in choices(group)]


@pytest.mark.filterwarnings("ignore:.*GPU available but not used")
@pytest.mark.parametrize(("group", "choice"), ALL, ids=lambda value: value)
def test_it_composes_and_instantiates(group: str, choice: str, tmp_path: Path) -> None:
    anywhere = ["trainer.accelerator=cpu"] if choice in ("gpu", "ddp") and not torch.cuda.is_available() else []
    cfg = composed(tmp_path, f"{group}={choice}", *anywhere)
    OmegaConf.resolve(cfg)
    with torch.device("meta") if group == "experiment" else nullcontext():  # some of their models are large
        flow = instantiate(cfg.model)
    data = instantiate(cfg.data)
    assert isinstance(data, ImageData) and isinstance(flow, ImageFlow)
    assert data.image_shape == flow.image_shape
    lit = instantiate(cfg.training, flow=flow)
    assert isinstance(lit, LitFlow)
    assert isinstance(lit.make_optimizer(lit.flow.named_parameters()), torch.optim.Optimizer)
    callbacks = list(instantiate(cfg.callbacks, _convert_="all").values())
    loggers = list(instantiate(cfg.logger, _convert_="all").values())
    assert isinstance(instantiate(cfg.trainer, callbacks=callbacks, logger=loggers), L.Trainer)


@pytest.mark.parametrize("name", ["sample", "evaluate", "quality", "superres", "augment"])
def test_the_other_scripts_configs_compose(name: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        assert compose(name, ["ckpt=some.ckpt"]).ckpt == "some.ckpt"


def test_grids_are_drawn_before_weight_averaging_swaps_back(tmp_path: Path) -> None:
    names = list(composed(tmp_path).callbacks)
    assert names.index("grids") < names.index("ema")


def test_seeds_follow_the_one_seed(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "seed=7")
    assert cfg.data.seed == cfg.training.seed == 7
    assert cfg.data.split_seed == cfg.training.eval_seed == 0


def test_every_config_says_what_it_is() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize("name", choices("features"))
def test_features_are_chosen_in_quality_and_in_training(name: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        chosen = compose("quality", [f"features={name}"]).features
        told = ["run_dir=.", "callbacks=quality", f"features@callbacks.quality.features={name}"]
        callbacks = compose("train", told).callbacks
    assert callbacks.quality.features == chosen
    assert [*callbacks].index("quality") < [*callbacks].index("ema")
    check_config(OmegaConf.create({"features": chosen}))
