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
from flows.edits import Attribute, load_latents
from flows.image_flow import ImageFlow
from flows.training import save_flow
from scripts.edit import (
    apply_attribute,
    decode,
    interpolate,
    make_attribute,
    reconstruct,
    resample_levels,
)
from tests.support.perturb import perturb
from tests.support.run import CONF

SETTINGS = {"num_levels": 2, "num_steps": 1, "hidden_channels": 4}
KINDS: dict[str, dict[str, Any]] = {
    "colour": {"image_shape": (3, 8, 8)},
    "grey": {"image_shape": (1, 8, 8), "num_bits": 5},
    "classes": {"image_shape": (1, 8, 8), "num_classes": 3},
    "autoregressive": {"image_shape": (3, 8, 8), "top_prior": "autoregressive", "num_classes": 3},
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
    with initialize_config_dir(f"{CONF}/edit", version_base="1.3"):
        main(compose(name, [f"ckpt={folder}/flow.safetensors", f"out={out}", *told, *overrides]))
    return out


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
    ],
)
def test_wrong_input_is_named(
    flow: ImageFlow, tmp_path: Path, main: Callable[..., None], override: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises((ValueError, OSError), match=message):
        call(main, tmp_path, override.format(tmp_path))


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
