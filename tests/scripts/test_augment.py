"""scripts/augment.py: a folder of new training images, which are what the flow makes of seeds or of training images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

import flows
from data import Digits, ImageData, ImageFolder
from flows.image_flow import ImageFlow
from flows.training import Provenance, save_flow
from scripts import augment
from tests.support.perturb import perturb
from tests.support.run import CONF

SETTINGS: dict[str, Any] = {"image_shape": (1, 8, 8), "num_levels": 2, "num_steps": 1, "hidden_channels": 4}


def stored(path: Path, **settings: Any) -> ImageFlow:
    torch.manual_seed(0)
    flow = perturb(flows.build("glow", **{**SETTINGS, **settings}), 0.05)
    save_flow(flow, path)
    return flow.eval()


@pytest.fixture
def flow(tmp_path: Path) -> ImageFlow:
    return stored(tmp_path / "flow.safetensors", num_classes=10)


def make(folder: Path, *overrides: str) -> Path:
    told = [f"ckpt={folder}/flow.safetensors", "data=digits", "num_images=60", f"out={folder}/more", "batch_size=25"]
    with initialize_config_dir(CONF, version_base="1.3"):
        augment.main(compose("augment", [*told, *overrides]))
    return folder / "more"


def images_of(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the images of a folder in the order of their seeds, and the names of their subfolders as numbers."""
    paths = sorted(folder.glob("*/*.png"), key=lambda path: path.name)
    labels = [int(path.parent.name) for path in paths]
    return torch.stack([pil_to_tensor(Image.open(path)) for path in paths]), torch.tensor(labels)


def training_images(num_train: int) -> Tensor:
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200, num_train=num_train)
    data.setup()
    return data.train_set[list(range(num_train))].images


def test_samples_are_those_of_the_flow_in_the_folders_of_their_classes(
    flow: ImageFlow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = images_of(make(tmp_path, "temperature=0.7", "seed=5"))
    assert torch.equal(labels, (torch.arange(60) + 5) % 10)
    different = images != flow.sample(range(5, 65), 0.7, labels)
    assert different.double().mean() < 1e-3  # other batches round otherwise
    assert "60 images by samples, temperature 0.7, guidance 0" in capsys.readouterr().out
    about = json.loads((tmp_path / "more/about.json").read_text())
    assert about.items() > {"by": "samples", "temperature": 0.7, "num_images": 60, "num_train_images": 1300}.items()
    assert "angle" not in about


@pytest.mark.parametrize("num_classes", [10, None])
def test_latents_that_are_not_turned_give_the_training_images_in_turn(num_classes: int | None, tmp_path: Path) -> None:
    stored(tmp_path / "flow.safetensors", num_classes=num_classes)
    images, labels = images_of(make(tmp_path, "by=latents", "angle=0", "data.num_train=20"))
    assert torch.equal(images[:20], images[20:40]) and torch.equal(labels.bincount(), torch.full((10,), 6))
    found, real = ({tuple(image.flatten().tolist()) for image in some} for some in (images, training_images(20)))
    assert found == real


def test_images_are_the_further_from_the_training_images_the_larger_the_angle(flow: ImageFlow, tmp_path: Path) -> None:
    real, distances = training_images(20).float(), []
    for angle in (1, 10, 45):
        images, _ = images_of(
            make(tmp_path, "by=latents", f"angle={angle}", "data.num_train=20", f"out={tmp_path}/more")
        )
        distances.append(torch.cdist(images.flatten(1).float(), real.flatten(1)).min(1).values.mean().item())
        (tmp_path / "more").rename(tmp_path / f"more-{angle}")
    assert 0 < distances[0] < distances[1] < distances[2]


def test_any_training_reads_the_folder_with_these_labels(tmp_path: Path) -> None:
    stored(tmp_path / "flow.safetensors", num_classes=12)
    twelve = "data.num_classes=12", "data.source._target_=tests.scripts.test_augment.Twelve"
    written, labels = images_of(make(tmp_path, *twelve, "num_images=36"))
    source = ImageFolder(str(tmp_path / "more"), (1, 8, 8), str(tmp_path / "index"))
    data = ImageData(source=source, image_shape=(1, 8, 8), num_classes=12, num_val=5, batch_size=4)
    whole = data.whole()
    assert whole.class_names == ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11")
    assert torch.equal(whole.labels, labels.sort(stable=True).values)
    assert torch.equal(whole[list(range(36))].images, written[labels.argsort(stable=True)])


class Twelve(Digits):
    """Digits whose classes have no names, as if they could be twelve."""

    def load(self) -> Any:
        sets = super().load()
        for images in sets:
            images.class_names = None
        return sets


@pytest.mark.parametrize(
    ("settings", "overrides", "says"),
    [
        ({}, [], "was trained without labels.*or take by=latents"),
        ({"num_classes": 7}, [], r"is a model of 7 classes, but data\.num_classes is 10"),
        ({"num_classes": 10, "image_shape": (1, 12, 12)}, [], r"is a model of \(1, 12, 12\) images .*data=NAME"),
        ({"condition_shape": (1, 4, 4)}, ["by=latents"], "a flow that is given images"),
        ({"num_classes": 10}, ["guidance=1"], "guidance needs a flow that knows images without a label"),
        ({"num_classes": 10}, ["by=latents", "guidance=1"], "guidance is for by=samples: leave it out"),
        ({"num_classes": 10}, ["by=latent"], "by is one of samples, latents; got 'latent'"),
        ({"num_classes": 10}, ["by=latents", "temperature=0.5"], "temperature is for by=samples: leave it out"),
        ({"num_classes": 10}, ["angle=15"], "angle is for by=latents: leave it out with by=samples"),
        ({"num_classes": 10}, ["by=latents", "angle=91"], "angle is between 0 and 90 degrees, got 91"),
        ({"num_classes": 10}, ["temperature=-1"], "temperature is at least 0, got -1"),
        ({"num_classes": 10}, ["num_images=0"], "num_images is a whole number of at least 1, got 0"),
        ({"num_classes": 10}, ["seed=-1"], "a seed is a whole number from 0"),
        ({"num_classes": 10}, ["data.num_train=1301"], "only 1300 images are left for training"),
        ({"num_classes": 10}, ["data.num_classes=null"], "each class gets a folder: give labelled data"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_before_there_is_a_folder(
    tmp_path: Path, settings: dict[str, Any], overrides: list[str], says: str
) -> None:
    stored(tmp_path / "flow.safetensors", **settings)
    with pytest.raises(ValueError, match=says):
        make(tmp_path, *overrides)
    assert not (tmp_path / "more").exists()


def test_other_classes_of_the_same_number_are_refused(flow: ImageFlow, tmp_path: Path) -> None:
    save_flow(flow, tmp_path / "flow.safetensors", Provenance(class_names=[*"abcdefghij"]))
    with pytest.raises(ValueError, match=r"the model knows the classes a, b, .* but those of the data are 0, 1"):
        make(tmp_path)


def test_a_folder_that_is_there_is_left_alone(flow: ImageFlow, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with pytest.raises(FileExistsError, match="more is there already: give another folder by out="):
        make(tmp_path)
    assert not [*(tmp_path / "more").iterdir()]
