"""scripts/quality.py: tables and pictures of samples beside real images, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import train
from data import Digits, ImageData, Subset
from data.order import shuffled
from flows import Sampler
from flows.training import InceptionFeatures, load_flow, save_flow
from flows.training.quality.distances import distances
from flows.training.quality.features import Features
from flows.training.quality.nearest import pixels
from flows.training.quality.samples import Described, described_samples
from flows.training.run.lock import hold_out
from scripts import quality
from tests.support.features import Projected, random_inception
from tests.support.run import CONF, TINY, run_training

FEATURES = "features={_target_: tests.support.features.Projected}"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=1", "model.num_classes=10")
    return folder


def measure(run_dir: Path, out: Path, *overrides: str) -> dict[str, Any]:
    told = [f"ckpt={run_dir}/best.safetensors", "data=digits", FEATURES, f"out={out}", "num_samples=50"]
    with initialize_config_dir(CONF, version_base="1.3"):
        quality.main(compose("quality", [*told, "num_columns=4", *overrides]))
    return json.loads((out / "quality.json").read_text(), parse_constant=pytest.fail)


def test_rows_compare_samples_with_the_images_of_the_split(run_dir: Path, tmp_path: Path) -> None:
    found = measure(run_dir, tmp_path, "temperature=[0.5,1]", "split=test", "sample_seeds=[0,2]", "batch_size=16")
    floor, *rows = found["rows"]
    flow, features = load_flow(run_dir / "best.safetensors"), Projected()
    test = Digits().load()[1]
    real = test[list(range(len(test)))]
    for row, temperature in zip(rows, (0.5, 1.0), strict=True):
        told = []
        for seeds in (range(50), range(100, 150)):
            labels = torch.tensor(seeds) % 10
            images = features(flow.sample(seeds, temperature, labels))
            right = (features.classify(images) == labels).double()
            of_classes = {"accuracy": right.mean().item(), "worst_class": right.view(5, 10).mean(0).min().item()}
            told.append({**distances(images, features(real.images))._asdict(), **of_classes})
        for name in ("fd", "kid", "precision", "recall", "accuracy", "worst_class"):
            assert row[name] == pytest.approx((told[0][name] + told[1][name]) / 2, rel=1e-3, abs=1e-3)
        assert row["fd_spread"] == pytest.approx(abs(told[0]["fd"] - told[1]["fd"]) / 2**0.5, rel=1e-2, abs=1e-4)
    right = features.classify(features(real.images)) == real.labels
    assert floor["accuracy"] == pytest.approx(right.double().mean().item()) and floor["temperature"] is None
    assert 0 <= floor["fd"] < min(row["fd"] for row in rows)
    assert found["best"]["temperature"] == min(rows, key=lambda row: row["fd"])["temperature"]
    assert (found["real_images"], found["samples"], found["sample_seeds"]) == (297, 50, [0, 2])


def test_each_guidance_has_a_row_per_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_training(tmp_path / "run", "model.num_classes=10", "training.label_dropout=0.1", "trainer.max_steps=5")
    told = ["temperature=[0.5,1]", "guidance=[0,2]", "level_temperature=[1,0.5]"]
    found = measure(tmp_path / "run", tmp_path / "out", *told)
    _, *rows = found["rows"]
    assert [(row["guidance"], row["temperature"]) for row in rows] == [(0, 0.5), (0, 1), (2, 0.5), (2, 1)]
    assert all(row["level_temperature"] == [1, 0.5] for row in rows)
    best = min(rows, key=lambda row: row["fd"])
    assert found["best"] == {name: best[name] for name in ("temperature", "guidance", "level_temperature")}
    flow, features = load_flow(tmp_path / "run/best.safetensors"), Projected()
    samples = features(flow.sample(range(50), 1.0, torch.arange(50) % 10, None, 2.0, [1, 0.5]))
    val = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200)
    val.setup()
    real = features(val.val_set[list(range(200))].images)
    assert rows[3]["fd"] == pytest.approx(distances(samples, real).fd, rel=1e-3)
    assert "| samples, temperature 1, guidance 2, level temperatures 1 0.5 |" in capsys.readouterr().out


def test_pictures_and_the_table_are_there(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(run_dir, tmp_path, "temperature=1")
    table = (tmp_path / "quality.md").read_text()
    assert table in capsys.readouterr().out
    assert "| images | FD | KID | precision | recall | accuracy | worst class |" in table
    assert "50 samples per row (sample seeds 0) and 50 training images, compared with 200 val images" in table
    flow = load_flow(run_dir / "best.safetensors")
    samples = flow.sample(range(16), 1.0, torch.arange(16) % 10)
    best, nearest = (
        pil_to_tensor(Image.open(tmp_path / name))[0].unfold(0, 60, 60).unfold(1, 60, 60)[..., 12::6, 12::6]
        for name in ("best.png", "nearest.png")
    )  # 8x8, enlarged by 6, with gaps of 12
    assert torch.equal(best.flatten(0, 1), samples[:, 0])
    assert torch.equal(nearest[0], samples[:4, 0]) and nearest.shape == (2, 4, 8, 8)
    with Image.open(tmp_path / "quality.png") as plot:
        assert plot.size[0] > 1000


def test_flows_without_classes_have_no_accuracy(tmp_path: Path) -> None:
    run_training(tmp_path / "run", "trainer.max_epochs=1")
    found = measure(tmp_path / "run", tmp_path / "quality", "temperature=1")
    assert found["rows"][1]["accuracy"] is None and found["rows"][0]["accuracy"] is not None


def test_real_images_get_the_grey_levels_of_the_flow(tmp_path: Path) -> None:
    run_training(tmp_path / "run", "model.num_bits=2", "trainer.max_steps=5")
    found = measure(tmp_path / "run", tmp_path / "out", "temperature=1", "num_columns=5")
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200)
    data.setup()
    train, val = (images[list(range(len(images)))].images // 64 * 64 for images in (data.train_set, data.val_set))
    features, samples = Projected(), load_flow(tmp_path / "run/best.safetensors").sample(range(50))
    some = shuffled(len(train), "floor", 0)[:50]
    for row, images in zip(found["rows"], (train[some], samples), strict=True):
        assert row["fd"] == pytest.approx(distances(features(images), features(val)).fd, rel=1e-3)
    gaps = torch.cdist(pixels(samples[:5]), pixels(train)).amin(1)
    assert found["nearest_training_image"]["samples"] == pytest.approx(gaps.mean().item())
    assert found["num_bits"] == 2 and "All images have 4 grey levels" in (tmp_path / "out/quality.md").read_text()


def test_features_of_other_classes_give_no_accuracy(run_dir: Path, tmp_path: Path) -> None:
    found = measure(run_dir, tmp_path, "temperature=1", "+features.class_names=[a,b,c,d,e,f,g,h,i,j]")
    assert [row["accuracy"] for row in found["rows"]] == [None, None]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["num_samples=6"], "6 samples are too few for 6 features"),
        (["data.num_val=5"], "5 val images are too few for 6 features"),
        (["features=fashion_mnist"], r"the features of Fashion-MNIST read images of \(1, 28, 28\)"),
        (["ckpt=fashion_mnist"], r"is a model of \(1, 28, 28\) images .*data=NAME"),
        (["split=tests"], "split is one of val, test"),
        (["split=train"], "split is one of val, test; got 'train'"),
        (["temperature=[]"], "a list of numbers that all differ"),
        (["temperature=-1"], "temperature is at least 0, got -1"),
        (["sample_seeds=[1,1]"], "whole numbers that all differ"),
        (["sample_seeds=[-1]"], "a seed is a whole number from 0"),
        (["num_columns=0"], "num_columns is a whole number of at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(run_dir: Path, tmp_path: Path, overrides: list[str], says: str) -> None:
    if overrides == ["features=fashion_mnist"]:
        overrides = ["features={_target_: flows.training.FashionMNISTFeatures}", "num_samples=100"]
    with pytest.raises(ValueError, match=says):
        measure(run_dir, tmp_path, *overrides)
    assert not list(tmp_path.iterdir())


def test_images_of_other_classes_are_refused(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.sources.digits.NAMES", tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"the model knows the classes 0, 1, .* those of the data are a, b, "):
        measure(run_dir, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(quality, "described", pytest.fail)
    with pytest.raises(OSError, match=r"\S+file\S* cannot be a folder for results \(.+\): give another path"):
        measure(run_dir, tmp_path / place)


SEVERAL = ["temperature=[0.5,1]", "level_temperature=[1,0.5]", "sample_seeds=[0,2]"]


@pytest.fixture
def interrupted(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a command that was interrupted at the last of four sets of samples."""
    left = 3

    def three(*args: Any, **kwargs: Any) -> Described:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return described_samples(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(quality, "described_samples", three)
        measure(run_dir, tmp_path / "interrupted", *SEVERAL)
    return tmp_path / "interrupted"


def test_an_interrupted_command_goes_on(
    run_dir: Path, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def noted(sampler: Sampler, features: Features, seeds: range, *args: Any, **kwargs: Any) -> Described:
        drawn.append((kwargs["knobs"].temperature, seeds.start))
        return described_samples(sampler, features, seeds, *args, **kwargs)

    whole = measure(run_dir, tmp_path / "whole", *SEVERAL)
    monkeypatch.setattr(quality, "described_samples", noted)
    assert measure(run_dir, interrupted, *SEVERAL) == whole
    assert drawn == [(1, 100)]
    assert {path.name for path in interrupted.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    with pytest.raises(FileExistsError, match="holds figures already"):
        measure(run_dir, interrupted, *SEVERAL)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ("num_samples=40", "num_samples"),
        ("split=test", "split"),
        ("+features.num_features=5", "features"),
        ("ckpt=OTHER", "flow"),
    ],
)
def test_a_command_with_other_settings_does_not_go_on(
    run_dir: Path, interrupted: Path, tmp_path: Path, changed: str, names: str
) -> None:
    flow = load_flow(run_dir / "best.safetensors")
    next(flow.parameters()).data.add_(1)
    save_flow(flow, tmp_path / "other.safetensors")
    before = (interrupted / "quality.partial.json").read_text()
    with pytest.raises(FileExistsError, match=rf"quality\.partial\.json .*other settings \({names}\): give another"):
        measure(run_dir, interrupted, *SEVERAL, changed.replace("OTHER", f"{tmp_path}/other.safetensors"))
    assert (interrupted / "quality.partial.json").read_text() == before


def test_figures_are_not_overwritten(run_dir: Path, tmp_path: Path) -> None:
    measure(run_dir, tmp_path, "temperature=1")
    with pytest.raises(FileExistsError, match="holds figures already: give another folder by out="):
        measure(run_dir, tmp_path)


def test_own_features_of_an_image_do_not_depend_on_its_batch(run_dir: Path, tmp_path: Path) -> None:
    unset = "features={_target_: tests.support.features.Unset}"
    small, large = (
        measure(run_dir, tmp_path / str(size), "temperature=1", unset, f"batch_size={size}") for size in (7, 50)
    )
    assert [row["fd"] for row in small["rows"]] == pytest.approx([row["fd"] for row in large["rows"]], rel=1e-6)


def test_features_of_another_shape_are_told_before_samples_are_drawn(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Projected, "forward", lambda self, images: torch.zeros(len(images), 6, 1, 1))
    monkeypatch.setattr(quality, "described_samples", pytest.fail)
    with pytest.raises(ValueError, match=r"num_features=6, .*\(200, 6\), got \(200, 6, 1, 1\)"):
        measure(run_dir, tmp_path)


def test_only_one_command_at_a_time_writes_into_a_folder(run_dir: Path, tmp_path: Path) -> None:
    with hold_out(tmp_path), pytest.raises(RuntimeError, match="is in use by another command: wait, or give anoth"):
        measure(run_dir, tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_of_another_split_than_that_of_the_run_are_refused(run_dir: Path, tmp_path: Path) -> None:
    for setting in ("data.num_val=100", "data.split_seed=1", "data.num_train=500"):
        with pytest.raises(ValueError, match=r"give data\.num_val=200 data\.split_seed=0 data\.num_train=null, as in"):
            measure(run_dir, tmp_path, setting)
    assert not list(tmp_path.iterdir())


def test_samples_have_classes_as_often_as_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(tmp_path / "run", "model.num_classes=10", "trainer.max_steps=5")
    train, test = Digits().load()
    keep = (train.labels < 2) | (torch.arange(len(train)) % 3 == 0)
    monkeypatch.setattr(Digits, "load", lambda self: (Subset(train, keep.nonzero()[:, 0]), test))
    drawn = []

    def noted(*args: Any, **kwargs: Any) -> Described:
        drawn.append(described_samples(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(quality, "described_samples", noted)
    measure(tmp_path / "run", tmp_path / "out", "temperature=1", "num_samples=1000")
    assert drawn[0].labels is not None
    found = torch.bincount(drawn[0].labels, minlength=10) / 1000
    wanted = torch.bincount(train.labels[keep], minlength=10) / int(keep.sum())
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)
    told = (tmp_path / "out/quality.md").read_text()
    assert "each class as often as the training images" in told and "samples may get below it" in told


@pytest.mark.slow
def test_colour_is_measured_by_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ["data=cifar10", "data.source=generated", "data.num_val=8", "data.num_train=40"]
    tiny = [one for one in TINY if one != "data=digits"]
    with initialize_config_dir(CONF, version_base="1.3"):
        train.main(compose("train", [*tiny, *data, f"run_dir={tmp_path}/run", "trainer.max_steps=2", "test=false"]))
        of_inception = InceptionFeatures.forward  # more than 2,048 images would take it minutes
        monkeypatch.setattr(InceptionFeatures, "forward", lambda self, images: of_inception(self, images)[:, :6])
        monkeypatch.setattr(InceptionFeatures, "num_features", 6)
        weights = random_inception(tmp_path / "weights.pth")
        told = [f"ckpt={tmp_path}/run/best.safetensors", f"out={tmp_path}/out", "num_samples=8", "num_columns=2"]
        inception = ["features=inception", f"features.weights={weights}"]
        quality.main(compose("quality", [*data, *told, *inception, "temperature=[0.5,1]"]))
    found = json.loads((tmp_path / "out/quality.json").read_text())
    floor, *rows = found["rows"]
    assert found["distance"] == "FID" and all(row["fd"] > floor["fd"] > 0 for row in rows)
    assert "FID" in (tmp_path / "out/quality.md").read_text() and (tmp_path / "out/best.png").exists()
