"""Training with dropped labels: guided samples, and the density without labels, from one run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

import flows
from data import Batch, Digits
from flows.files import CheckpointError
from flows.likelihood import draw_log_probs, mean_bits_per_dim
from flows.training import LitFlow, load_flow
from scripts import evaluate
from tests.support.run import CONF, run_training

LABELLED = [
    "model.num_classes=10",
    "model.top_prior=autoregressive",
    "model.prior_width=32",
    "training.label_dropout=0.2",
    "callbacks.grids.num_columns=4",
]
SPEC: dict[str, Any] = {"image_shape": (1, 8, 8), "num_levels": 1, "num_steps": 1, "hidden_channels": 4}


def lit_flow(rate: float, spec: dict[str, Any], seed: int = 0) -> LitFlow:
    flow = flows.build("glow", **SPEC, **spec)
    return LitFlow(flow, optimizer=_adam, schedule=lambda step, done: 1.0, seed=seed, label_dropout=rate)


def _adam(named_parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameter for _, parameter in named_parameters)


def kept(index: torch.Tensor, step: int, seed: int = 0) -> torch.Tensor:
    module = lit_flow(0.2, {"num_classes": 3, "label_dropout": 0.2}, seed)
    module._trainer = SimpleNamespace(global_step=step)  # type: ignore[assignment]
    images = torch.zeros(len(index), 1, 8, 8, dtype=torch.uint8)
    batch = Batch(images=images, labels=index % 3, index=index, condition=None)
    label = module._arguments(batch)[1]
    assert label is not None
    return label


def test_dropped_labels_are_a_function_of_seed_step_and_image() -> None:
    index = torch.arange(20_000)
    label = kept(index, step=5)
    dropped = label == 3
    assert torch.equal(label[~dropped], (index % 3)[~dropped])
    assert abs(dropped.double().mean() - 0.2) < 4 * (0.16 / len(index)) ** 0.5
    assert torch.equal(kept(index[7000:7010], step=5), label[7000:7010])
    for other in (kept(index, step=6), kept(index, step=5, seed=1)):
        both = ((other == 3) & dropped).double().mean()
        assert abs(both - 0.04) < 4 * (0.04 / len(index)) ** 0.5


@pytest.mark.parametrize(
    ("rate", "spec"), [(0.1, {}), (0.1, {"num_classes": 3}), (0, {"num_classes": 3, "label_dropout": 0.1})], ids=str
)
def test_model_and_training_agree_on_label_dropout(rate: float, spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"training.label_dropout is .*, but the model was built for"):
        lit_flow(rate, spec)


def test_labels_are_there_to_be_dropped(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="drops labels, and there are none: give num_classes, too"):
        run_training(tmp_path, "training.label_dropout=0.1")


def test_a_run_that_is_resumed_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    settings = [*LABELLED, "callbacks.last_minutes=null", "trainer.max_epochs=-1", "training.schedule.decay_fraction=0"]
    run_training(tmp_path / "whole", *settings, "trainer.max_steps=90")
    run_training(tmp_path / "parts", *settings, "trainer.max_steps=50")
    run_training(tmp_path / "parts", *settings, "trainer.max_steps=90", "resume=auto")
    whole, again = (load_flow(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    with pytest.raises(CheckpointError, match=r"label_dropout is 0\.2 there and 0\.3 here"):
        run_training(tmp_path / "parts", *settings, "trainer.max_steps=95", "resume=auto", "training.label_dropout=0.3")


def test_evaluate_tells_the_bits_without_labels(tmp_path: Path) -> None:
    run_training(tmp_path, *LABELLED, "trainer.max_steps=30", "trainer.max_epochs=-1")
    told = ["data=digits", f"ckpt={tmp_path}/best.safetensors", "without_labels=true", f"out={tmp_path}/bits.json"]
    with initialize_config_dir(CONF, version_base="1.3"):
        evaluate.main(compose("evaluate", [*told, "importance_weighted=true"]))
    found = json.loads((tmp_path / "bits.json").read_text())
    flow = load_flow(tmp_path / "best.safetensors")
    test = Digits().load()[1]
    batch = test[list(range(len(test)))]
    with torch.no_grad():
        for prefix, label in {
            "": batch.labels,
            "without_labels_": None,
            "dropped_label_": batch.labels * 0 + 10,
        }.items():
            log_probs = draw_log_probs(flow, batch.images, label, batch.index, num_draws=4, seed=0)
            expected = mean_bits_per_dim(log_probs, flow.num_dims).mean().item()
            assert found[f"{prefix}bits_per_dim"] == pytest.approx(expected, rel=1e-5)
            assert found[f"{prefix}importance_weighted_bits_per_dim"] < found[f"{prefix}bits_per_dim"]
    assert found["bits_per_dim"] < found["without_labels_bits_per_dim"] < found["dropped_label_bits_per_dim"] + 0.1
