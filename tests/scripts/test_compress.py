"""The commands that code images into a file and back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

pytest.importorskip("constriction")

import flows
from flows.training import save_flow
from scripts import compress, decompress
from scripts.files.decoded_name import decoded_name
from tests.support.images import save
from tests.support.perturb import perturb
from tests.support.run import CONF


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a flow, and with images in two folders."""
    torch.manual_seed(0)
    flow = perturb(flows.build("glow", image_shape=(3, 8, 8), num_levels=2, num_steps=1, hidden_channels=4), 0.05)
    save_flow(flow, tmp_path / "flow.safetensors")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for name, size in {"mine/a.png": (8, 8), "mine/b.bmp": (8, 8), "more/a.png": (20, 13)}.items():
        pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator)
        save(Image.fromarray(pixels.numpy()), tmp_path / name)
    return tmp_path


def call(main: Callable[..., None], *overrides: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        main(compose(main.__module__.rpartition(".")[2], [*overrides]))


def test_files_come_back_under_their_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [f"ckpt={folder}/flow.safetensors"]
    call(compress.main, *told, f"images=[{folder}/mine,{folder}/more]", f"out={folder}/all.flow")
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["images"] == 3 and "more/a.png: scaled from 20x13 to cover 8x8" in shown.err
    assert result["bits_per_dim"] < result["bits_per_dim_with_starting_bits"] < result["bits_per_dim_of_file"]
    assert result["bits_per_dim"] == pytest.approx(result["bits_per_dim_of_flow"], rel=0.02)
    call(decompress.main, *told, f"stream={folder}/all.flow", f"out={folder}/again")
    assert {str(path.relative_to(folder / "again")) for path in (folder / "again").rglob("*.png")} == {
        "mine/a.png",
        "mine/b.bmp.png",
        "more/a.png",
    }
    for name, other in {"mine/a.png": "mine/a.png", "mine/b.bmp": "mine/b.bmp.png"}.items():
        before, after = (pil_to_tensor(Image.open(path)) for path in (folder / name, folder / "again" / other))
        assert torch.equal(before, after)


def test_other_colours_than_those_of_the_flow_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(Image.new("RGBA", (8, 8)), folder / "odd/clear.png")
    save(Image.new("RGB", (8, 8)), folder / "odd/plain.png")
    call(compress.main, f"ckpt={folder}/flow.safetensors", f"images={folder}/odd", f"out={folder}/odd.flow")
    told = capsys.readouterr().err
    assert "clear.png: turned from RGBA into RGB, and comes back so" in told and "plain.png" not in told


def test_images_of_a_data_set_come_back_by_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [f"ckpt={folder}/flow.safetensors"]
    data = ["data=cifar10", "data.source=generated", "data.image_shape=[3,8,8]", "data.num_val=5"]
    call(compress.main, *told, *data, "num_images=2", f"out={folder}/two.flow")
    assert json.loads(capsys.readouterr().out)["images"] == 2
    call(decompress.main, *told, f"stream={folder}/two.flow", f"out={folder}/again")
    assert sorted(path.name for path in (folder / "again").iterdir()) == ["00000.png", "00001.png"]


def test_bits_that_the_flow_drops_are_among_those_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coarse = flows.build("glow", image_shape=(3, 8, 8), num_levels=2, num_steps=1, hidden_channels=4, num_bits=3)
    save_flow(perturb(coarse, 0.05), folder / "coarse.safetensors")
    call(compress.main, f"ckpt={folder}/coarse.safetensors", f"images={folder}/mine", f"out={folder}/all.flow")
    result = json.loads(capsys.readouterr().out)
    assert result["bits_per_dim"] == pytest.approx(result["bits_per_dim_of_flow"], rel=0.02) and result["images"] == 2


def test_what_is_there_already_stays(folder: Path) -> None:
    told = [f"ckpt={folder}/flow.safetensors"]
    (folder / "all.flow").write_text("mine")
    with pytest.raises(FileExistsError, match=r"all\.flow holds a result already: give another path, or remove it"):
        call(compress.main, *told, f"images={folder}/mine", f"out={folder}/all.flow")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        call(compress.main, *told, f"images={folder}/mine", f"out={folder}/none/all.flow")
    assert (folder / "all.flow").read_text() == "mine"


@pytest.mark.parametrize("images", ["[mine,../more]", "[../more/a.png,mine/b.bmp]"])
def test_files_beside_the_current_folder_come_back(folder: Path, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "here").mkdir()
    (folder / "mine").rename(folder / "here/mine")
    monkeypatch.chdir(folder / "here")
    call(compress.main, "ckpt=../flow.safetensors", f"images={images}", "out=all.flow")
    call(decompress.main, "ckpt=../flow.safetensors", "stream=all.flow", "out=again")
    assert (folder / "here/again/more/a.png").exists() and (folder / "here/again/here/mine/b.bmp.png").exists()


def test_names_that_would_be_too_long_are_refused(folder: Path) -> None:
    long = folder / f"{'n' * 249}.bmp"
    (folder / "mine/b.bmp").rename(long)
    with pytest.raises(ValueError, match=r"n\.bmp would come back as a file with too long a name"):
        call(compress.main, f"ckpt={folder}/flow.safetensors", f"images={long}", f"out={folder}/one.flow")


def test_files_that_would_come_back_as_one_are_refused(folder: Path) -> None:
    save(Image.new("RGB", (8, 8)), folder / "mine/b.bmp.png")
    with pytest.raises(ValueError, match=r"b\.bmp.* and .*b\.bmp\.png would both come back as b\.bmp\.png: leave one"):
        call(compress.main, f"ckpt={folder}/flow.safetensors", f"images={folder}/mine", f"out={folder}/all.flow")
    assert not (folder / "all.flow").exists()


@pytest.mark.parametrize("setting", ["split=val", "num_images=3"])
def test_settings_of_data_are_refused_beside_files(folder: Path, setting: str) -> None:
    with pytest.raises(ValueError, match="choose images of data: leave them out"):
        call(compress.main, f"ckpt={folder}/flow.safetensors", f"images={folder}/mine", setting)


def test_nothing_is_decoded_for_a_folder_that_is_there(folder: Path) -> None:
    with pytest.raises(FileExistsError, match="mine is there already"):
        call(decompress.main, f"ckpt={folder}/none.safetensors", "stream=none.flow", f"out={folder}/mine")


def test_names_that_lead_out_of_the_folder_are_refused() -> None:
    assert str(decoded_name("deep/x.PNG")) == "deep/x.PNG" and str(decoded_name("x.jpg")) == "x.jpg.png"
    for name in ("../x.png", "/x.png", "deep/../../x"):
        with pytest.raises(ValueError, match="which lies outside of the folder"):
            decoded_name(name)
