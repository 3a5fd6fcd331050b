"""scripts/score.py: images of other kinds are told from those of training."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

import flows
from data import Subset, TensorImages
from flows.image_flow import ImageFlow
from flows.outside import Statistics
from scripts import score
from scripts.comparison.detection import areas, detection
from tests.support.perturb import perturb
from tests.support.run import CONF, run_training

INVERTED = [
    "against.source._target_=data.Changed",
    "+against.source.source={_target_: data.Digits}",
    "+against.source.change={_target_: data.Invert}",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=3", "test=false")
    return folder


def run_score(run_dir: Path, out: Path, *overrides: str) -> dict[str, dict[str, float]]:
    told = [f"ckpt={run_dir}/best.safetensors", "data=digits", "data@against=digits", "num_images=100", "num_train=200"]
    with initialize_config_dir(CONF, version_base="1.3"):
        score.main(compose("score", [*told, "num_bootstrap=50", f"out={out}", *overrides]))
    return json.loads((out / "table.json").read_text())


def test_inverted_digits_are_told_from_digits(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "score"
    found = run_score(run_dir, out, *INVERTED)
    assert found["bits/dim"]["auroc"] > 0.95 and found["typicality"]["auroc"] > 0.95
    low, high = found["bits/dim"]["auroc_interval"]
    assert low <= found["bits/dim"]["auroc"] <= high
    assert found["PNG alone"]["auroc"] < 0.9
    rows = scores(out)
    assert [row["side"] for row in rows] == ["inside"] * 100 + ["outside"] * 100
    assert "| bits/dim |" in capsys.readouterr().out and (out / "histograms.png").exists()
    with pytest.raises(FileExistsError, match="is there already"):
        run_score(run_dir, out)


def scores(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_likelihood_ratio_is_against_the_background(run_dir: Path, tmp_path: Path) -> None:
    flow = flows.load(run_dir / "best.safetensors")
    other = tmp_path / "other.safetensors"
    flows.save(perturb(flow, 0.02), other)
    run_score(run_dir, tmp_path / "one", *INVERTED, f"background={other}")
    run_score(run_dir, tmp_path / "other", *INVERTED, f"ckpt={other}")
    for row, of_background in zip(scores(tmp_path / "one"), scores(tmp_path / "other"), strict=True):
        ratio = float(row["bits/dim"]) - float(of_background["bits/dim"])
        assert ratio != 0 and float(row["likelihood ratio"]) == pytest.approx(ratio, abs=1e-3)


def test_images_that_the_flow_maps_out_of_range_are_named(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = score.statistics

    def broken(flow: ImageFlow, images: Tensor, noise: Tensor) -> Statistics:
        found = measured(flow, images, noise)
        found.bits[1] = torch.inf
        return found

    monkeypatch.setattr(score, "statistics", broken)
    with pytest.raises(ValueError, match="nothing finite about 1 of 200 train images, the first is row 1: "):
        run_score(run_dir, tmp_path / "score", "data.eval_batch_size=250")
    assert not (tmp_path / "score").exists()


def test_images_are_drawn_from_the_whole_set() -> None:
    images = TensorImages(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1))  # sorted, as classes in folders are
    rows = score.some(images, 50, 0).rows
    assert torch.equal(rows, rows.unique()) and len(rows) == 50
    assert (rows < 100).sum() == pytest.approx(25, abs=10)
    assert torch.equal(rows, score.some(images, 50, 0).rows) and not torch.equal(rows, score.some(images, 50, 1).rows)
    assert torch.equal(score.some(images, 300, 0).rows, torch.arange(200))


def test_validation_images_of_another_split_are_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the val images of the flow's run were others: give data.num_val="):
        run_score(run_dir, tmp_path / "score", "split=val", "data.num_val=10")


def test_equal_images_cannot_be_told_apart(run_dir: Path, tmp_path: Path) -> None:
    found = run_score(run_dir, tmp_path / "score")
    assert all(row["auroc"] == pytest.approx(0.5, abs=1e-6) for row in found.values())


def test_images_of_another_shape_are_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Changed has \(1, 28, 28\): give images of that shape, as data.Changed"):
        run_score(run_dir, tmp_path / "score", "data@against=digits_28x28")
    assert not (tmp_path / "score").exists()


def test_validation_images_are_compared_with_validation_images(run_dir: Path, tmp_path: Path) -> None:
    """Without a change, both sides have the same scores, in the same order."""
    found = run_score(run_dir, tmp_path / "score", "split=val", "num_images=1000")
    assert all(row["auroc"] == pytest.approx(0.5, abs=1e-6) for row in found.values())
    with (tmp_path / "score/scores.csv").open() as file:
        rows = [[row["side"], row["bits/dim"]] for row in csv.DictReader(file)]
    inside, outside = ([bits for side, bits in rows if side == name] for name in score.SIDES)
    assert inside == outside and len(inside) == 200


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.png")
    images = TensorImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.full((3,), -1), names=["a", "b", name])
    scores = {side: {"bits/dim": torch.ones(1)} for side in score.SIDES}
    score.write_scores(tmp_path / "scores.csv", dict.fromkeys(score.SIDES, Subset(images, torch.tensor([2]))), scores)
    assert b"inside,2,a\xff.png,1" in (tmp_path / "scores.csv").read_bytes()


def test_areas_are_those_of_all_pairs() -> None:
    inside, outside = torch.tensor([0.0, 1.0, 2.0, 1e9]), torch.tensor([1.0, 3.0, 1e12])
    pairs = [(one > other) + 0.5 * (one == other) for one in outside.tolist() for other in inside.tolist()]
    assert areas(inside, outside)[0] == pytest.approx(sum(pairs) / 12)
    found = detection(inside, outside, 20)
    assert found == detection(inside, outside, 20) and found.auroc_interval[0] < found.auroc
