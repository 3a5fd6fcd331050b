"""scripts/evaluate.py: the same number as the run that made the checkpoint, and a tighter bound under its own name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from data import Digits
from data.image_set import Subset
from flows.training import read_summary
from scripts import evaluate
from tests.support.run import CONF, run_training


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=1")
    return folder


def run_evaluate(run_dir: Path, *overrides: str) -> dict[str, float]:
    out = run_dir / "evaluation.json"
    with initialize_config_dir(CONF, version_base="1.3"):
        evaluate.main(
            compose("evaluate", [f"ckpt={run_dir}/best.safetensors", "data=digits", f"out={out}", *overrides])
        )
    return json.loads(out.read_text(), parse_constant=pytest.fail)


def test_it_repeats_the_runs_own_test(run_dir: Path) -> None:
    summary = read_summary(run_dir / "summary.json")
    result = run_evaluate(run_dir, "num_draws=2")
    assert result["bits_per_dim"] == pytest.approx(summary["test_bits_per_dim"], rel=1e-7)
    assert result["standard_error"] == pytest.approx(summary["test_standard_error"], rel=1e-5)
    assert result["images"] == 297


def test_batch_size_changes_nothing(run_dir: Path) -> None:
    one, other = (run_evaluate(run_dir, f"data.eval_batch_size={size}")["bits_per_dim"] for size in (297, 40))
    assert one == pytest.approx(other, rel=1e-6)


def test_splits_are_whole(run_dir: Path) -> None:
    assert run_evaluate(run_dir, "split=val")["images"] == 200
    assert run_evaluate(run_dir, "split=train")["images"] == 1300


def test_the_importance_weighted_bound_is_tighter_and_named_so(run_dir: Path) -> None:
    plain = run_evaluate(run_dir, "num_draws=8")
    assert "importance_weighted_bits_per_dim" not in plain
    both = run_evaluate(run_dir, "num_draws=8", "importance_weighted=true")
    assert both["bits_per_dim"] == plain["bits_per_dim"]
    assert both["importance_weighted_bits_per_dim"] < both["bits_per_dim"]


def test_an_unknown_split_is_named(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="split is one of train, val, test; got 'tests' \\(did you mean 'test'"):
        run_evaluate(run_dir, "split=tests")


def test_one_image_has_no_error(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Digits.load
    monkeypatch.setattr(Digits, "load", lambda self: (load(self)[0], Subset(load(self)[1], torch.tensor([5]))))
    result = run_evaluate(run_dir)
    assert result["images"] == 1 and result["standard_error"] is None


def test_data_of_other_classes_are_refused_for_a_flow_that_was_given_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(tmp_path, "model.num_classes=10", "trainer.max_steps=1", "test=false")
    assert run_evaluate(tmp_path, "num_draws=1")["images"] == 297
    monkeypatch.setattr("data.sources.digits.NAMES", tuple("9876543210"))
    with pytest.raises(ValueError, match=r"the model knows the classes 0, 1, .* but those of the data are 9, 8"):
        run_evaluate(tmp_path)


@pytest.mark.slow
def test_it_runs_from_the_shell(run_dir: Path, tmp_path: Path) -> None:
    script = str(Path(CONF).parent / "scripts/evaluate.py")
    command = [sys.executable, script, f"ckpt={run_dir}/best.safetensors", "data=digits", "num_draws=2"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    summary = read_summary(run_dir / "summary.json")
    assert json.loads(shown)["bits_per_dim"] == pytest.approx(summary["test_bits_per_dim"], rel=1e-6)
    assert not list(tmp_path.iterdir())
