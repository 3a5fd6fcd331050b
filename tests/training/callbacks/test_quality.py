"""Measuring samples in training: logged, kept in the summary, and what sweeps may compare."""

import csv
from pathlib import Path

import pytest

from data import Digits, ImageData
from flows.training import Quality, find_runs, load_flow, read_summary
from flows.training.quality.distances import distances
from scripts import collect
from tests.support.features import Projected
from tests.support.run import run_training

QUALITY = [
    "callbacks=quality",
    "callbacks.quality.features={_target_: tests.support.features.Projected}",
    "callbacks.quality.num_samples=40",
    "callbacks.progress=null",
    "trainer.max_epochs=2",
]


def logged(folder: Path, name: str) -> list[float]:
    """Return the values of a metric in metrics.csv."""
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_figures_are_logged_and_sweeps_may_compare_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = ["model.num_classes=10", "test=false"]
    fd = run_training(tmp_path / "fd", *QUALITY, *classes, "objective=fd")
    summary = read_summary(tmp_path / "fd/summary.json")
    assert fd == summary["val_fd"] and fd == pytest.approx(logged(tmp_path / "fd", "val/fd")[-1], rel=1e-3)
    assert [len(logged(tmp_path / "fd", f"val/{name}")) for name in ("kid", "precision", "recall", "accuracy")] == [
        2
    ] * 4
    error = run_training(tmp_path / "fd", *QUALITY, *classes, "objective=classification_error", "resume=auto")
    assert error == 1 - summary["val_accuracy"]
    assert len(list(find_runs(tmp_path))) == 1
    collect.main([str(tmp_path)])
    assert f"{fd:.2f}" in capsys.readouterr().out


def test_every_second_validation_and_the_last(tmp_path: Path) -> None:
    told = ["callbacks.quality.every_n_validations=2", "trainer.max_epochs=3", "test=false"]
    run_training(tmp_path, *QUALITY, *told)
    assert len(logged(tmp_path, "val/fd")) == 2 and not logged(tmp_path, "val/accuracy")


def test_validation_images_get_the_grey_levels_of_the_flow(tmp_path: Path) -> None:
    run_training(tmp_path, *QUALITY, "model.num_bits=2", "trainer.max_epochs=1", "test=false")
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200)
    data.setup()
    val = data.val_set[list(range(200))].images // 64 * 64
    features, samples = Projected(), load_flow(tmp_path / "best.safetensors").sample(range(40))
    expected = distances(features(samples), features(val)).fd
    assert read_summary(tmp_path / "summary.json")["val_fd"] == pytest.approx(expected, rel=1e-3)


OTHER_CLASSES = "+callbacks.quality.features.class_names=[a,b,c,d,e,f,g,h,i,j]"


def test_features_of_other_classes_give_no_accuracy(tmp_path: Path) -> None:
    run_training(tmp_path, *QUALITY, OTHER_CLASSES, "model.num_classes=10", "trainer.max_epochs=1", "test=false")
    assert logged(tmp_path, "val/fd") and not logged(tmp_path, "val/accuracy")
    assert "val_accuracy" not in read_summary(tmp_path / "summary.json")


@pytest.mark.parametrize("check", [False, True])
def test_runs_are_not_compared_by_other_classes(tmp_path: Path, check: bool) -> None:
    told = ["model.num_classes=10", "objective=classification_error", f"check={check}"]
    with pytest.raises(ValueError, match=r"tell the classes of the data, and callbacks\.quality\.features tell others"):
        run_training(tmp_path, *QUALITY, OTHER_CLASSES, *told)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["objective=fid"], "objective is one of bits_per_dim, fd, kid, classification_error; got 'fid'"),
        (["objective=fd"], "objective=fd compares samples, which this run does not measure: add callbacks=quality"),
        ([*QUALITY, "objective=classification_error"], "needs a flow that draws classes: set model.num_classes"),
        ([*QUALITY, "callbacks.quality.num_samples=6"], "6 samples are too few for 6 features"),
        (
            [*QUALITY, "callbacks.quality.features={_target_: flows.training.FashionMNISTFeatures}"],
            "40 samples are too",
        ),
        ([*QUALITY, "data.num_val=5"], "5 validation images are too few for 6 features"),
    ],
    ids=["no objective", "not measured", "no classes", "few samples", "few for these features", "few images"],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(Exception, match=says):
        run_training(tmp_path, *overrides)


def test_a_run_that_did_not_measure_says_so(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_epochs=1", "callbacks.progress=null")
    told = [one for one in QUALITY if "max_epochs" not in one]
    with pytest.raises(ValueError, match="objective=fd was not measured when this run ended: give another run_id"):
        run_training(tmp_path, *told, "trainer.max_epochs=1", "resume=auto", "objective=fd")


def test_a_missing_package_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"'torch_fidelity': pip install -e '\.\[quality\]'"):
        Quality(Projected(), num_samples=40)
