"""scripts/superres.py: bits/dim of large and small images add up; samples are compared with what they were given."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from data import Digits, Downsample
from flows.training import load_flow
from scripts import evaluate, superres
from tests.support.run import CONF, run_training

CONDITION = "data.condition={_target_: data.Downsample, factor: 4}"
SMALL = [
    "model=realnvp",
    "model.num_levels=1",
    "data.image_shape=[1,2,2]",
    "data.source._target_=data.Changed",
    "+data.source.change={_target_: data.Downsample, factor: 4}",
    "+data.source.source={_target_: data.Digits}",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    steps = ["trainer.max_epochs=-1", "trainer.max_steps=20", "training.num_init_images=32"]
    run_training(folder / "large", CONDITION, "model.condition_shape=[1,2,2]", "model.num_classes=10", *steps)
    run_training(folder / "small", *SMALL, *steps)
    return folder


def measure(runs: Path, out: Path, *overrides: str) -> dict[str, float]:
    told = [f"ckpt={runs}/large/best.safetensors", f"small_ckpt={runs}/small/best.safetensors", f"out={out}"]
    with initialize_config_dir(CONF, version_base="1.3"):
        superres.main(compose("superres", ["data=digits", "num_draws=2", *told, *overrides]))
    return json.loads((out / "superres.json").read_text(), parse_constant=pytest.fail)


def evaluated(path: Path, *overrides: str) -> float:
    out = path.with_suffix(".json")
    with initialize_config_dir(CONF, version_base="1.3"):
        evaluate.main(compose("evaluate", [f"ckpt={path}", "data=digits", "num_draws=2", f"out={out}", *overrides]))
    return json.loads(out.read_text())["bits_per_dim"]


def test_bits_are_those_of_both_flows_and_their_sum_is_of_whole_images(runs: Path, tmp_path: Path) -> None:
    found = measure(runs, tmp_path, "num_samples=2")
    large = evaluated(runs / "large/best.safetensors", CONDITION)
    small = evaluated(runs / "small/best.safetensors", *SMALL[2:])
    assert found["images"] == 297
    assert found["given_small_bits_per_dim"] == pytest.approx(large, rel=1e-6)
    assert found["small_bits_per_dim"] == pytest.approx(small, rel=1e-6)
    assert found["total_bits_per_dim"] == pytest.approx(large + small * 4 / 64, rel=1e-6)


def test_samples_are_those_of_the_first_images_whatever_the_batch(runs: Path, tmp_path: Path) -> None:
    told = ["num_samples=9", "num_columns=3", "temperature=[0,0.8]"]
    found = measure(runs, tmp_path, *told)
    assert measure(runs, tmp_path / "other", *told, "data.eval_batch_size=4")["rms_error"] == pytest.approx(
        found["rms_error"], rel=1e-4
    )
    real = Digits().load()[1][list(range(9))]
    small = Downsample(4)(real.images)
    flow = load_flow(runs / "large/best.safetensors")
    samples = {t: flow.sample(range(9), t, real.labels, small) for t in (0.0, 0.8)}
    for temperature, images in samples.items():
        error = (F.avg_pool2d(images.double(), 4) - small).square().mean().sqrt()
        assert found["rms_error"][str(temperature)] == pytest.approx(error.item(), rel=1e-3)
    assert 0.1 < found["rms_error_of_real_images"] < 0.5  # means are rounded
    grid = pil_to_tensor(Image.open(tmp_path / "grid.png"))
    tiles = grid[0].unfold(0, 60, 60).unfold(1, 60, 60)[..., 12::6, 12::6]  # 8x8, enlarged by 6, with gaps of 12
    rows = small.repeat_interleave(4, 2).repeat_interleave(4, 3), samples[0.0], samples[0.8], real.images
    assert torch.equal(tiles, torch.stack([row[:3, 0] for row in rows]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["small_ckpt=fashion_mnist"], r"small_ckpt must be an unconditional model of the small images, \(1, 2, 2\)"),
        (
            ["ckpt=fashion_mnist"],
            "ckpt is a flow that is given no images: train one by experiment=fashion_mnist_superres",
        ),
        (["data=cifar10"], r"ckpt is a model of \(1, 8, 8\) images .* data=NAME"),
        (["data.condition.factor=2"], r"model.condition_shape is \[1, 2, 2\], but data.condition makes .*\(1, 4, 4\)"),
        (["data.num_classes=null"], "ckpt is a model of 10 classes, but data.num_classes is None"),
        (["temperature=[1,-1]"], "temperature is at least 0, got -1"),
        (["temperature=[1,1]"], "numbers that all differ"),
        (["num_samples=0"], "num_samples is a whole number of at least 1"),
        (["split=tests"], "split is one of train, val, test"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(runs: Path, tmp_path: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measure(runs, tmp_path, *overrides)


def test_a_place_where_nothing_can_be_written_is_told_before_the_work(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.superres.given_log_probs", pytest.fail)
    (tmp_path / "notes.txt").touch()
    for out in ("notes.txt", "notes.txt/x"):
        with pytest.raises(OSError, match=f"{out} cannot be a folder for results"):
            measure(runs, tmp_path, f"out={tmp_path}/{out}")


def test_figures_are_not_overwritten(runs: Path, tmp_path: Path) -> None:
    measure(runs, tmp_path, "num_samples=2", "temperature=0")
    with pytest.raises(FileExistsError, match=r"superres\.json is there already: give another folder by out="):
        measure(runs, tmp_path)
