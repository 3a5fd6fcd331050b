"""The commands that edit images: on grey and colour images, with and without classes, with an autoregressive prior."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import flows
from data import ImageData, TensorImages
from flows.edits import Attribute, load_latents
from flows.image_flow import ImageFlow
from flows.provenance import Provenance
from flows.training import save_flow, save_png
from scripts.edit import (
    apply_attribute,
    decode,
    interpolate,
    make_attribute,
    nearest,
    reconstruct,
    resample_levels,
)
from scripts.edit.sides import labels_of
from tests.support.perturb import perturb
from tests.support.run import CONF

SETTINGS = {"num_levels": 2, "num_steps": 1, "hidden_channels": 4}
KINDS: dict[str, dict[str, Any]] = {
    "colour": {"image_shape": (3, 8, 8)},
    "grey": {"image_shape": (1, 8, 8), "num_bits": 5},
    "classes": {"image_shape": (1, 8, 8), "num_classes": 3},
    "classes in couplings": {"image_shape": (3, 8, 8), "num_classes": 3, "condition": "couplings"},
    "autoregressive": {"image_shape": (1, 8, 8), "top_prior": "autoregressive"},
    "autoregressive, classes": {"image_shape": (3, 8, 8), "top_prior": "autoregressive", "num_classes": 3},
}


@pytest.fixture(params=KINDS)
def flow(request: pytest.FixtureRequest, tmp_path: Path) -> ImageFlow:
    torch.manual_seed(0)
    made = perturb(flows.build("glow", **{**SETTINGS, **KINDS[request.param]}), 0.05)
    save_flow(made, tmp_path / "flow.safetensors")
    (tmp_path / "mine").mkdir()
    generator = torch.Generator().manual_seed(0)
    for name, size in {"a": (8, 8), "b": (8, 8), "c": (20, 13)}.items():
        pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"mine/{name}.png")
    return made


def call(main: Callable[..., None], folder: Path, *overrides: str, label: bool = True) -> Path:
    name = main.__module__.rpartition(".")[2]
    flow = flows.load(folder / "flow.safetensors")
    told = ["label=1"] if label and flow.num_classes else []
    out = folder / f"out-{name}"
    given = [] if main is nearest.main else [f"ckpt={folder}/flow.safetensors", *told]
    with initialize_config_dir(CONF, version_base="1.3"):
        main(compose(f"edit/{name}", [*given, f"out={out}", *overrides]))
    return out


def generated(flow: ImageFlow, num_classes: int | None = 3) -> list[str]:
    """Return overrides for a labelled data set of the shape of a flow."""
    shape = f"data.image_shape={[*flow.image_shape]}".replace(" ", "")
    classes = "null" if num_classes is None else num_classes
    return ["data=loader", "data.source=generated", shape, "data.num_val=900", f"data.num_classes={classes}"]


def read(path: Path) -> torch.Tensor:
    return pil_to_tensor(Image.open(path))


def test_images_come_back_and_their_latents_from_a_file(
    flow: ImageFlow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = call(reconstruct.main, tmp_path, f"images={tmp_path}/mine")
    told = capsys.readouterr()
    assert "c.png: scaled from 20x13 to cover 8x8, and cropped at the centre" in told.err
    assert "a.png" not in told.err and "3 images" in told.out
    assert read(out / "0002.png").shape == flow.image_shape
    zs, names = load_latents(out / "latents.npz", flow)
    assert [Path(name).name for name in names] == ["a.png", "b.png", "c.png"] and len(zs[0]) == 3
    again = call(decode.main, tmp_path, f"latents={out}/latents.npz")
    for number in range(3):
        assert torch.equal(read(again / f"{number:04d}.png"), read(out / f"{number:04d}.png"))
    if flow.dequantize.num_bits == 8:
        assert "0 of them not the same as before" in told.out


def test_a_way_is_a_grid_and_two_animations(flow: ImageFlow, tmp_path: Path) -> None:
    out = call(interpolate.main, tmp_path, f"images=[{tmp_path}/mine/a.png,{tmp_path}/mine/b.png]", "num_steps=4")
    assert read(out / "grid.png").shape[2] > 5 * 48
    for ending in ("gif", "webp"):
        with Image.open(out / f"way.{ending}") as animation:
            assert animation.n_frames == 5 + 3  # there and back again
            assert animation.size == (8 * 24, 8 * 24)


def test_an_attribute_is_made_and_applied(flow: ImageFlow, tmp_path: Path) -> None:
    file = call(
        make_attribute.main,
        tmp_path,
        f"having=[{tmp_path}/mine/a.png,{tmp_path}/mine/b.png]",
        f"lacking={tmp_path}/mine/c.png",
        "name=hats",
        "batch_size=1",
        f"out={tmp_path}/hats.safetensors",
    )
    del file
    found = Attribute.load(tmp_path / "hats.safetensors", flow)
    assert (found.name, found.num_with, found.num_without) == ("hats", 2, 1)
    out = call(
        apply_attribute.main,
        tmp_path,
        f"attribute={tmp_path}/hats.safetensors",
        f"images={tmp_path}/mine/a.png",
        "strengths=[-1,0,0.5]",
    )
    assert {path.name for path in out.iterdir()} == {"grid.png", "0000_-1.png", "0000_0.png", "0000_0.5.png"}
    if flow.dequantize.num_bits == 8 and flow.image_shape[0] == 3:
        assert torch.equal(read(out / "0000_0.png"), read(tmp_path / "mine/a.png"))


@pytest.mark.parametrize("lacking", ["null", "0", "[0,2]"])
def test_an_attribute_is_made_from_classes(
    flow: ImageFlow, tmp_path: Path, lacking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the difference of the means over the training images, each under its own label."""
    told = [*generated(flow), "having=1", f"lacking={lacking}", f"out={tmp_path}/one.safetensors", "num_images=9999"]
    call(make_attribute.main, tmp_path, *told, label=False)
    images = ImageData(source="generated", image_shape=flow.image_shape, num_classes=3, num_val=900)
    images.setup()
    batch = images.sets["train"][[*range(len(images.train_set))]]
    with torch.no_grad():
        zs = flow.encode(batch.images, batch.labels if flow.num_classes else None)
    having, others = batch.labels == 1, batch.labels == 0 if lacking == "0" else batch.labels != 1
    found = Attribute.load(tmp_path / "one.safetensors", flow)
    assert (found.num_with, found.num_without) == (having.sum(), others.sum())
    assert f"from {having.sum()} images with it and {others.sum()} without" in capsys.readouterr().out
    for direction, z in zip(found.direction, zs, strict=True):
        torch.testing.assert_close(direction, z[having].mean(0) - z[others].mean(0), atol=1e-4, rtol=1e-4)


def test_an_attribute_is_made_from_the_classes_of_the_flow(tmp_path: Path) -> None:
    flow = flows.build("glow", **SETTINGS, image_shape=(1, 8, 8), num_classes=10)
    save_flow(flow, tmp_path / "flow.safetensors", Provenance(class_names=[*"abcdefghij"]))
    told = ["data=digits", "having=1", f"out={tmp_path}/one.safetensors"]
    with pytest.raises(ValueError, match=r"the model knows the classes a, b, c, .*, but those of the data are"):
        call(make_attribute.main, tmp_path, *told, label=False)


@pytest.mark.parametrize("flow", ["grey"], indirect=True)
def test_images_are_compared_in_the_grey_levels_of_the_flow(
    flow: ImageFlow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(reconstruct.main, tmp_path, f"images={tmp_path}/mine")
    assert "3 images, 0 of them not the same as before" in capsys.readouterr().out


@pytest.mark.parametrize("flow", ["classes"], indirect=True)
def test_an_attribute_takes_some_images_of_each_side_and_one_label_for_all(flow: ImageFlow, tmp_path: Path) -> None:
    found = []
    for number, told in enumerate(["seed=0", "seed=1", "label=2"]):
        out = tmp_path / f"{number}.safetensors"
        chosen = [*generated(flow), "having=1", "num_images=20", f"out={out}", told]
        call(make_attribute.main, tmp_path, *chosen, label=False)
        found.append(Attribute.load(out, flow))
        assert (found[-1].num_with, found[-1].num_without) == (20, 20)
    for other in found[1:]:
        assert not torch.equal(found[0].direction[-1], other.direction[-1])


def test_classes_have_names_and_numbers() -> None:
    images = TensorImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3), class_names=("hat", "7", "bag"))
    assert labels_of("having", ["bag", "hat"], images) == [2, 0]
    assert labels_of("having", 2, images) == [2] and labels_of("having", 7, images) == [1]
    with pytest.raises(ValueError, match=r"having is one of hat, 7, bag; got 'hut' \(did you mean 'hat'\?\)"):
        labels_of("having", "hut", images)


@pytest.mark.parametrize("flow", ["grey"], indirect=True)
@pytest.mark.parametrize(
    ("num_classes", "overrides", "message"),
    [
        (3, ["having=3"], "having is one of 0, 1, 2; got '3'"),
        (3, ["having=[0,1]", "lacking=1"], "class 1 is in having and in lacking: leave it out of one of them"),
        (3, ["having=[0,1,2]"], "there is no training image for lacking: give other classes"),
        (None, ["having=0"], "have no labels: give image files, and leave data out"),
        (3, ["having=0", "data.image_shape=[3,8,8]"], r"is a model of \(1, 8, 8\) images"),
    ],
)
def test_impossible_classes_are_named(
    flow: ImageFlow, tmp_path: Path, num_classes: int | None, overrides: list[str], message: str
) -> None:
    out = f"out={tmp_path}/one.safetensors"
    with pytest.raises(ValueError, match=message):
        call(make_attribute.main, tmp_path, *generated(flow, num_classes), *overrides, out)


@pytest.mark.parametrize(
    ("flow", "chosen"),
    [("grey", []), ("colour", []), ("grey", ["+features={_target_: tests.support.features.Projected}"])],
    indirect=["flow"],
)
def test_a_training_image_is_nearest_to_itself(
    flow: ImageFlow, tmp_path: Path, chosen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    images = ImageData(source="generated", image_shape=flow.image_shape, num_classes=3, num_val=900)
    images.setup()
    for row in (3, 40):
        save_png(images.train_set[[row]].images[0], tmp_path / f"train/{row:02}.png")
    told = [f"images={tmp_path}/train", "num_nearest=2", *generated(flow), *chosen]
    out = call(nearest.main, tmp_path, *told)
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(("03", "40"), lines, strict=False):
        first, second = map(float, line.removeprefix(f"{tmp_path}/train/{name}.png: ").split())
        assert first == 0 and second >= 0
    assert "the 2 nearest of" in lines[-1]
    grid = read(out / "grid.png")[:, 28:]  # below the names
    for row in range(2):
        tiles = [grid[:, 12 + 60 * row :, 12 + 60 * column :][:, :48, :48] for column in range(3)]
        assert torch.equal(tiles[0], tiles[1]) and not torch.equal(tiles[0], tiles[2])


def test_levels_are_drawn_anew(flow: ImageFlow, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = call(resample_levels.main, tmp_path, f"images={tmp_path}/mine")
    assert "level 0; levels 0 to 1; level 1" in capsys.readouterr().out
    assert read(out / "grid.png").shape[1] > 4 * 48


@pytest.mark.parametrize("flow", ["grey"], indirect=True)
@pytest.mark.parametrize(
    ("main", "override", "message"),
    [
        (
            reconstruct.main,
            "images={}/missing.png",
            r"there is no .*missing.png: give image files, or",
        ),
        (reconstruct.main, "images={}/empty", "empty is a folder without images"),
        (reconstruct.main, "images={}/text.png", r"text.png .*"),
        (interpolate.main, "images={}/mine/a.png", "a way leads through at least two images, got 1"),
        (decode.main, "latents={}/text.png", "holds no latents"),
        (reconstruct.main, "images=[]", "there is no image: give at least one file, or a folder of images"),
        (interpolate.main, "images={}/mine seconds=-1", "seconds is a number from 0 to 655, got -1"),
        (apply_attribute.main, "images={}/mine attribute=a strengths=[1,1]", "strengths is a number, or a list of"),
        (apply_attribute.main, "images={}/mine attribute=a strengths=[1,inf]", "strengths are finite numbers"),
        (apply_attribute.main, "images={}/mine attribute=a strengths=[1,1.0000001]", "that agree in six digits"),
        (reconstruct.main, "images={}/mine out={}/text.png/new", r"would be in .*text\.png, which is a file"),
    ],
)
def test_wrong_input_is_named(
    flow: ImageFlow, tmp_path: Path, main: Callable[..., None], override: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises((ValueError, OSError), match=message):
        call(main, tmp_path, *override.replace("{}", str(tmp_path)).split())


@pytest.mark.parametrize("flow", ["grey"], indirect=True)
def test_files_have_another_side(flow: ImageFlow, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacking is null: give images without the attribute, or a data set with"):
        call(make_attribute.main, tmp_path, f"having={tmp_path}/mine", f"out={tmp_path}/one.safetensors")


@pytest.mark.parametrize("flow", ["classes"], indirect=True)
def test_labels_are_asked_for_and_checked(flow: ImageFlow, tmp_path: Path) -> None:
    images = f"images={tmp_path}/mine"
    with pytest.raises(ValueError, match="this flow knows 3 classes: say what the images are by label=N"):
        call(reconstruct.main, tmp_path, images, label=False)
    with pytest.raises(ValueError, match=r"a list of one for each of the 3 images, got \[0, 1\]"):
        call(reconstruct.main, tmp_path, images, "label=[0,1]", label=False)
    call(reconstruct.main, tmp_path, images, "label=[0,1,2]", label=False)
    with pytest.raises(FileExistsError, match="is there already: give another folder by out="):
        call(reconstruct.main, tmp_path, images)
