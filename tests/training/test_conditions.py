"""Flows that are conditioned on images, trained, drawn from and evaluated by the same commands as others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import sample
from data import Digits, Downsample
from flows.training import load_flow, read_summary
from scripts import evaluate
from tests.support.run import CONF, run_training

SUPERRES = [
    "model.condition_shape=[1,2,2]",
    "data.condition={_target_: data.Downsample, factor: 4}",
    "trainer.max_steps=4",
    "trainer.max_epochs=-1",
    "callbacks.grids.num_columns=4",
]
MODELS = {"glow": [], "realnvp": ["model=realnvp", "model.num_blocks=1"], "memory-flat": ["model.memory_flat=true"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("superres")
    classes = ["model.num_classes=10", "model.condition=couplings"]
    run_training(folder, *SUPERRES, *classes, "trainer.max_steps=80", "model.hidden_channels=16")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three condition images."""
    folder = tmp_path_factory.mktemp("small")
    for k, image in enumerate(Downsample(4)(Digits().load()[1][[0, 1, 2]].images)):
        Image.fromarray(image[0].numpy()).save(folder / f"{k}.png")
    return folder


def run(name: str, main: Any, *overrides: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        main(compose(name, [*overrides]))


@pytest.mark.parametrize("model", MODELS)
def test_a_run_that_is_resumed_ends_as_one_that_never_stopped(model: str, tmp_path: Path) -> None:
    settings = [*SUPERRES, *MODELS[model], "data.augment.max_shift=1", "callbacks.last_minutes=null"]
    run_training(tmp_path / "whole", *settings, "trainer.max_steps=90", "training.schedule.decay_fraction=0")
    parts = [*settings, "training.schedule.decay_fraction=0"]
    run_training(tmp_path / "parts", *parts, "trainer.max_steps=50")
    run_training(tmp_path / "parts", *parts, "trainer.max_steps=90", "resume=auto")
    whole, again = (load_flow(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_grids_show_conditions_samples_and_the_truth(trained: Path) -> None:
    (path, *_) = sorted((trained / "samples").glob("*.png"))
    picture = pil_to_tensor(Image.open(path))
    rows = 1 + 4 + 1
    zoom, gap = 6, 12
    assert picture.shape[1] == rows * (8 * zoom + gap) + gap
    images = Digits().load()[0]
    tiles = [picture[0, gap + row * (8 * zoom + gap) :][: 8 * zoom, gap : gap + 8 * zoom] for row in (0, rows - 1)]
    condition, truth = (tile[::zoom, ::zoom] for tile in tiles)
    assert torch.equal(Downsample(4)(truth[None, None])[0, 0], condition[::4, ::4])
    assert any(torch.equal(truth, image[0]) for image in images[list(range(len(images)))].images)


def test_samples_are_given_the_images_of_a_folder_in_turn(trained: Path, small: Path, tmp_path: Path) -> None:
    told = [f"ckpt={trained}/best.safetensors", f"condition={small}", "temperature=0", "num_samples=4", "label=3"]
    run("sample", sample.main, *told, f"out={tmp_path}/drawn", "batch_size=3")
    images = [pil_to_tensor(Image.open(path)) for path in sorted((tmp_path / "drawn").glob("temperature-0/*/*.png"))]
    assert len(images) == 4 and torch.equal(images[0], images[3]) and not torch.equal(images[0], images[1])


def test_evaluation_gives_what_the_run_tested(trained: Path, tmp_path: Path) -> None:
    told = [f"ckpt={trained}/best.safetensors", "data=digits", f"out={tmp_path}/result.json", "num_draws=2"]
    run("evaluate", evaluate.main, *told, SUPERRES[1])

    found = json.loads((tmp_path / "result.json").read_text())["bits_per_dim"]
    assert found == pytest.approx(read_summary(trained / "summary.json")["test_bits_per_dim"], abs=1e-5)


def test_what_does_not_fit_is_refused(trained: Path, small: Path, tmp_path: Path) -> None:
    ckpt = f"ckpt={trained}/best.safetensors"
    with pytest.raises(ValueError, match=r"given images of 2x2 pixels .*condition=FOLDER"):
        run("sample", sample.main, ckpt, f"out={tmp_path}/a")
    with pytest.raises(ValueError, match="no folder with images"):
        run("sample", sample.main, ckpt, f"condition={tmp_path}", f"out={tmp_path}/a")
    with pytest.raises(ValueError, match="leave condition out"):
        run("sample", sample.main, f"condition={small}", f"out={tmp_path}/a")
    Image.new("L", (3, 2)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"wide.png has 3x2 pixels.*2x2 pixels"):
        run("sample", sample.main, ckpt, f"condition={tmp_path}", f"out={tmp_path}/a")
    with pytest.raises(ValueError, match=r"data.condition is null: .*data.Downsample"):
        run("evaluate", evaluate.main, ckpt, "data=digits")
    with pytest.raises(ValueError, match=r"makes images of \(1, 2, 2\).*model.condition_shape=\[1,2,2\]"):
        run_training(tmp_path / "run", SUPERRES[1])
    with pytest.raises(ValueError, match=r"data.condition is null"):
        run_training(tmp_path / "run", SUPERRES[0])
