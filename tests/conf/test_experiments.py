"""Experiments of papers and recipes: headers are true, and each of the papers' trains on files of its format."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import flows
import train
from flows.bijections.scale import LearnedTanhScale
from flows.training import Cost, check_config, decay_scales, estimate, read_summary
from tests.support.generated import GENERATORS
from tests.support.run import CONF

PARAMETERS = {
    "glow_celeba_hq": 168_786_576,
    "glow_celeba_hq_affine": 224_549_136,
    "glow_cifar10": 44_052_816,
    "glow_cifar10_class": 37_857_936,
    "glow_fashion_mnist": 19_566_688,
    "glow_imagenet32": 66_077_520,
    "glow_imagenet64": 111_080_592,
    "glow_lsun": 66_077_520,
    "glow_mnist": 19_566_688,
    "realnvp_celeba": 90_841_423,
    "realnvp_cifar10": 18_519_625,
    "realnvp_fashion_mnist": 10_418_161,
    "realnvp_imagenet32": 43_690_407,
    "realnvp_imagenet64": 90_841_423,
    "realnvp_lsun": 90_841_423,
    "realnvp_mnist": 10_418_161,
    "tarflow_imagenet64": 460_161_216,
}
TRIALS = (
    "digits",
    "digits_superres",
    "fashion_mnist_7x7",
    "fashion_mnist_background",
    "fashion_mnist_class_5min",
    "fashion_mnist_superres",
)
"""Not of papers, and with no result in README."""
RECIPES = {
    "emoji_20min": 1_504_720,
    "fashion_mnist_5min": 154_720,
    "fashion_mnist_5min_autoregressive": 363_840,
    "fashion_mnist_5min_realnvp": 304_915,
    "fashion_mnist_60min": 656_992,
    "fashion_mnist_60min_autoregressive": 1_118_464,
    "fashion_mnist_class_60min": 1_120_576,
    "photos_10min": 939_536,
    "photos_60min": 1_919_888,
}
README = (Path(__file__).parents[2] / "README.md").read_text()


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [f"experiment={name}", *overrides])


def header(name: str) -> str:
    lines = (Path(CONF) / f"experiment/{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))


def test_all_are_here() -> None:
    assert {path.stem for path in (Path(CONF) / "experiment").glob("*.yaml")} == {*PARAMETERS, *RECIPES, *TRIALS}


def settings(file: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(Path(CONF) / file))


def repeated(ours: dict[str, Any], model: str) -> list[str]:
    with initialize_config_dir(CONF, version_base="1.3"):
        theirs = OmegaConf.to_container(compose("train", [f"model={model}"]).model)
    return [f"{key}: {value}" for key, value in ours.items() if key in theirs and theirs[key] == value]


@pytest.mark.parametrize("name", [*PARAMETERS, *RECIPES, *TRIALS])
def test_it_sets_nothing_that_its_model_says(name: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        model = compose("train", [f"experiment={name}"], return_hydra_config=True).hydra.runtime.choices.model
    if name in PARAMETERS:
        assert model == f"{name.partition('_')[0]}_paper"
    assert not repeated(settings(f"experiment/{name}.yaml").get("model", {}), model)


@pytest.mark.parametrize("name", ["glow", "realnvp"])
def test_the_model_of_a_paper_sets_nothing_that_the_model_it_starts_from_says(name: str) -> None:
    paper = settings(f"model/{name}_paper.yaml")
    assert paper["defaults"] == [name]
    assert not repeated(paper, name)


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_builds_at_full_size_with_the_stated_parameters(name: str) -> None:
    cfg = composed(name, "run_dir=.")
    check_config(cfg)
    with torch.device("meta"):
        flow = instantiate(cfg.model)
    assert sum(parameter.numel() for parameter in flow.parameters()) == PARAMETERS[name]
    assert f"Parameters: {PARAMETERS[name]:,}." in header(name)
    assert re.search(r"(Paper|Literature): .*(bits/dim|samples)", header(name))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_with_the_stated_parameters_and_states_its_result_as_the_readme_does(name: str) -> None:
    cfg = composed(name, "run_dir=.")
    check_config(cfg)
    with torch.device("meta"):
        flow = instantiate(cfg.model)
    assert sum(parameter.numel() for parameter in flow.parameters()) == RECIPES[name]
    assert f"Parameters: {RECIPES[name]:,}." in header(name)
    result = re.search(r"Test: (\d\.\d{3} ± \d\.\d{3}) bits/dim", header(name))
    assert result is not None
    (row,) = [line for line in README.splitlines() if line.startswith("|") and f"experiment={name}`" in line]
    assert f"| {RECIPES[name]:,} |" in row
    assert f"| {result[1]} |" in row


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_its_estimate_is_the_counted_one(name: str) -> None:
    with torch.device("meta"):
        cfg = composed(name)
        cost = estimate(instantiate(cfg.model))
    stated = header(name).replace(",", "")
    (num_images,) = re.findall(r"an epoch of (\d+) images", stated)
    assert f"{cost.gflop:.2f} GFLOP and {cost.mebibytes:.1f} MiB of activations per image" in stated
    assert "At a sustained 10 TFLOP/s" in stated
    assert f"takes {cost.hours(int(num_images), 10):.2f} hours" in stated
    batch = cfg.data.batch_size
    assert f"a batch of {batch} images take {cost.mebibytes * batch / 1024:.1f} GiB" in stated


SMALLER = {
    "glow": ["model.hidden_channels=4", "model.num_steps=1"],
    "realnvp": ["model.hidden_channels=4", "model.num_blocks=1"],
    "tarflow": ["model.num_squeezes=3", "model.num_blocks=2", "model.num_layers=1", "model.width=12"],
}
SHRUNKEN = [
    "data.batch_size=4",
    "data.eval_batch_size=4",
    "data.num_val=4",
    "data.num_workers=0",
    "training.num_init_images=4",
    "training.num_test_draws=1",
    "trainer.max_steps=3",
    "trainer.log_every_n_steps=1",
    "callbacks.grids.num_columns=2",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("name", PARAMETERS)
def test_it_takes_three_steps_at_a_shrunken_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(source for source in sorted(GENERATORS, key=len, reverse=True) if source in name)
    GENERATORS[source](tmp_path / "datasets", monkeypatch)
    smaller = SMALLER[name.partition("_")[0]]
    few = ["trainer.limit_test_batches=2"] if source.endswith("mnist") else []
    folders = [f"run_dir={tmp_path}", f"data_root={tmp_path}/datasets"]
    train.main(composed(name, *SHRUNKEN, *smaller, *(f"+{override}" for override in few), *folders))
    assert read_summary(tmp_path / "summary.json")["steps"] == 3


def test_decay_touches_scales_only() -> None:
    flow = flows.build("realnvp", image_shape=(1, 4, 4), num_levels=1, hidden_channels=3, num_blocks=1)
    optimizer = decay_scales(flow.named_parameters(), optimizer=torch.optim.Adam, lr=0.5, weight_decay=5e-5)
    plain, decayed = optimizer.param_groups
    assert plain["lr"] == decayed["lr"] == 0.5
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 5e-5)
    convolutions = [part for part in flow.modules() if hasattr(part, "parametrizations")]
    scales = [conv.parametrizations.weight.original0 for conv in convolutions]
    scales += [part.range for part in flow.modules() if isinstance(part, LearnedTanhScale)]
    assert len(scales) == 4 * (3 + 1)
    assert {id(p) for p in decayed["params"]} == {id(p) for p in scales}
    assert len(plain["params"]) + len(decayed["params"]) == len(list(flow.parameters()))


def test_operations_of_a_convolution_are_counted_by_hand() -> None:
    """Forward and the gradients of input and weight cost the same; the image itself needs no gradient."""
    spec = {"name": "glow", "image_shape": [1, 4, 4], "num_levels": 1, "num_steps": 1, "hidden_channels": 8}

    with torch.device("meta"):
        cost = estimate(flows.build(**spec))
    pixels, multiply_and_add = 2 * 2, 2
    layers = [2 * 8 * 9, 8 * 8, 8 * 4 * 9]
    conv1x1 = 4 * 4
    expected = multiply_and_add * pixels * (3 * sum(layers) + 2 * conv1x1)
    assert cost.gflop * 1e9 == pytest.approx(expected)


def test_hours_follow_from_operations() -> None:
    assert Cost(1, gflop=36.0, mebibytes=1).hours(num_images=10**6, tflops=10) == 1
