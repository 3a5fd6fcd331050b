"""sample.py: grids and single images from a checkpoint alone."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import flows
import sample
from flows.image_flow import ImageFlow
from flows.provenance import Provenance
from flows.training import image_grid, load_flow, save_flow, save_png
from tests.support.perturb import perturb
from tests.support.run import CONF

SMALL = {"image_shape": (1, 8, 8), "num_levels": 2, "num_steps": 1, "hidden_channels": 4, "scale": "tanh4"}


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return store(tmp_path, flows.build("glow", **SMALL))


def store(folder: Path, flow: ImageFlow) -> Path:
    save_flow(perturb(flow, 0.1), folder / "flow.safetensors")
    return folder / "flow.safetensors"


def run_sample(ckpt: Path, *overrides: str) -> Path:
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = [f"ckpt={ckpt}", f"out={ckpt.parent}/out", "num_samples=12", "nrow=4", "temperature=0.7"]
        cfg = compose("sample", [*settings, *overrides])
    sample.main(cfg)
    return Path(cfg.out or "samples")


def read(path: Path) -> torch.Tensor:
    return pil_to_tensor(Image.open(path))


def test_every_image_is_the_one_of_its_seed(ckpt: Path) -> None:
    out = run_sample(ckpt, "temperature=0.8", "seed=3", "batch_size=5")
    paths = sorted(out.glob("temperature-0.8/*/*.png"))
    assert [int(path.stem) for path in paths] == list(range(3, 15))
    expected = load_flow(ckpt).sample(range(3, 15), 0.8)
    difference = (torch.stack([read(path) for path in paths]).int() - expected.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3


def test_a_list_of_temperatures_gives_a_row_each_with_the_same_seeds(ckpt: Path) -> None:
    out = run_sample(ckpt, "temperature=[0,0.5,1]")
    cell, pad = 48, 12
    grid = read(out / "grid.png")[:, :, -(4 * (cell + pad) + pad) :]  # without the names of the rows
    assert grid.shape == (3, 3 * (cell + pad) + pad, 4 * (cell + pad) + pad)
    for row, temperature in enumerate(["0", "0.5", "1"]):
        for column in range(4):
            image = read(out / f"temperature-{temperature}/00000000/{column:08d}.png")
            top, left = pad + row * (cell + pad), pad + column * (cell + pad)
            shown = grid[:1, top : top + cell : 6, left : left + cell : 6]
            assert torch.equal(shown, image)
    mode = [read(path) for path in out.glob("temperature-0/*/*.png")]
    assert len(mode) == 12 and all(torch.equal(image, mode[0]) for image in mode)


def test_many_samples_are_spread_over_folders_of_a_thousand(ckpt: Path) -> None:
    out = run_sample(ckpt, "num_samples=2100", "seed=500", "batch_size=512")
    counts = {folder.name: len(list(folder.iterdir())) for folder in out.glob("temperature-0.7/*")}
    assert counts == {"00000000": 500, "00001000": 1000, "00002000": 600}


def test_a_conditional_flow_takes_a_label_or_all_in_turn(tmp_path: Path) -> None:
    ckpt = store(tmp_path, flows.build("glow", **SMALL, num_classes=3))
    flow = load_flow(ckpt)
    for overrides, label in (["label=2"], [2] * 12), ([], [0, 1, 2] * 4):
        out = run_sample(ckpt, *overrides, f"out={tmp_path}/{len(overrides)}")
        expected = flow.sample(range(12), 0.7, torch.tensor(label))
        shown = torch.stack([read(path) for path in sorted(out.glob("temperature-0.7/*/*.png"))])
        assert (shown.int() - expected.int()).abs().max() <= 1


def conditional(folder: Path, **changes: object) -> Path:
    return store(folder, flows.build("glow", **{**SMALL, "num_classes": 3, "label_dropout": 0.1, **changes}))


def test_a_folder_is_named_by_all_that_changes_its_images(tmp_path: Path) -> None:
    knobs = ["temperature=[0.5,1]", "guidance=[0,1.5]", "level_temperature=[1,0.25]"]
    out = run_sample(conditional(tmp_path), *knobs, "num_samples=3")
    names = [f"temperature-{t}{g}-levels-1-0.25" for g in ("", "-guidance-1.5") for t in ("0.5", "1")]
    assert {path.name for path in out.iterdir()} == {*names, "grid.png"}
    flow = load_flow(tmp_path / "flow.safetensors")
    expected = flow.sample(range(3), 0.5, torch.arange(3), None, 1.5, [1, 0.25])
    drawn = torch.stack([read(path) for path in sorted((out / names[2]).rglob("*.png"))])
    assert (drawn.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("label", "classes"), [("[2,0]", [2, 0, 2, 0]), ("null", [1, 0, 1, 1])], ids=str)
def test_listed_labels_are_taken_in_turn_and_else_seeds_say_the_class(
    tmp_path: Path, label: str, classes: list[int]
) -> None:
    told = ["seed=[7,3,40,4]", f"label={label}", "num_samples=null", "batch_size=3"]
    out = run_sample(conditional(tmp_path), *told)
    flow = load_flow(tmp_path / "flow.safetensors")
    expected = flow.sample([7, 3, 40, 4], 0.7, torch.tensor(classes))
    for seed, image in zip([7, 3, 40, 4], expected, strict=True):
        shown = read(out / f"temperature-0.7/00000000/{seed:08d}.png")
        assert (shown.int() - image.int()).abs().max() <= 1


def test_a_grid_alone(tmp_path: Path) -> None:
    out = run_sample(conditional(tmp_path), "images=false", "temperature=[0.5,1]", "num_samples=null", "nrow=null")
    assert [path.name for path in out.iterdir()] == ["grid.png"]
    grid = read(out / "grid.png")
    names = grid[:, : -(2 * 60 + 12)], grid[:, -(2 * 60 + 12) :, : -(3 * 60 + 12)]  # one column per class
    assert all(part.numel() > 0 and part.min() == 0 for part in names)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["seed=[0,1,2,5,4,3]", "nrow=3"], False),
        (["seed=[0,1,2,3,4,5]", "nrow=3"], True),
        (["seed=[0,1,3,4]", "nrow=2"], True),
        (["seed=[0,1,2]", "nrow=2"], False),
        (["seed=[2,1,0,5]", "nrow=4"], True),
        (["seed=[2,1,0,5]", "nrow=2", "label=[0,1]"], True),
        (["seed=[2,1,0,4]", "nrow=2", "label=2"], True),
        (["seed=[0,1,2,5,4,3]", "nrow=6", "temperature=[0.5,1]"], True),
    ],
    ids=str,
)
def test_columns_have_names_if_all_their_images_are_of_one_class(
    tmp_path: Path, overrides: list[str], named: bool
) -> None:
    out = run_sample(conditional(tmp_path), *overrides, "images=false", "num_samples=null")
    assert ((read(out / "grid.png").shape[1] - 12) % 60 > 0) == named  # names are above the rows of 60 pixels


def test_columns_have_the_names_of_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, told = load_flow(conditional(tmp_path)), []
    save_flow(flow, tmp_path / "flow.safetensors", Provenance(class_names=["coat", "shoe", "bag"]))
    monkeypatch.setattr(sample, "with_names", lambda grid, columns, rows: (told.append(columns), grid)[1])
    run_sample(tmp_path / "flow.safetensors", "label=[2,0]", "nrow=2", "num_samples=4", "images=false")
    assert told == [["bag", "coat"]]


def test_autoregressive_maps_draw_the_same_in_parallel(tmp_path: Path) -> None:
    ckpt = conditional(tmp_path, top_prior="autoregressive", prior_width=32)
    one, other = (
        read(run_sample(ckpt, f"parallel={parallel}", f"out={tmp_path}/{parallel}", "guidance=1") / "grid.png").int()
        for parallel in ("false", "true")
    )
    assert (one - other).abs().max() <= 1 and (one != other).float().mean() < 1e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["label=[0,3]"], r"label is between 0 and 2, or a list of such numbers, got \[0, 3\]"),
        (["label=[]"], "label is between 0 and 2, or a list"),
        (["seed=[1,1]", "num_samples=null"], "a list of whole numbers that all differ"),
        (["seed=[1,2]"], "2 seeds and num_samples=12: leave num_samples out"),
        (["seed=[]", "num_samples=null"], "one whole number for each image, got none"),
        (["guidance=[1,1]"], "guidance is a number, or a list of numbers that all differ"),
        (["guidance=-1"], "guidance is one finite number of at least 0, got -1"),
        (["level_temperature=[1,1,1]"], "list of 2 temperatures, one per level"),
        (["nrow=0"], "nrow is a whole number of at least 1, got 0"),
        (["images=false", "temperature=[0.5,1]"], "nrow=4 shows 4 of 12 images: set nrow=12"),
        (["images=false", "seed=[1,2,3,4,5]", "num_samples=null", "guidance=[0,1]"], "nrow=4 shows 4 of 5 images"),
        (["temperature=1", "guidance=[0,1]", "label=[0]", "parallel=true"], "parallel is for autoregressive maps"),
    ],
    ids=str,
)
def test_wrong_use_of_a_conditional_flow_is_named(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_sample(conditional(tmp_path), *overrides)


def test_guidance_without_label_dropout_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"without label dropout.*training.label_dropout=0.1"):
        run_sample(conditional(tmp_path, label_dropout=0), "guidance=[0,1]")
    assert not (tmp_path / "out").exists()


def test_a_grid_is_not_overwritten_by_a_grid_alone(tmp_path: Path) -> None:
    ckpt = conditional(tmp_path)
    out = run_sample(ckpt)
    before = (out / "grid.png").read_bytes()
    with pytest.raises(FileExistsError, match=r"grid.png holds samples already"):
        run_sample(ckpt, "images=false", "nrow=null")
    assert (out / "grid.png").read_bytes() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("label=1", "trained without labels"),
        ("temperature=nan", "temperature is at least 0, got nan: give one finite number"),
        ("temperature=inf", "temperature is at least 0, got inf"),
        ("temperature=-0.5", "temperature is at least 0, got -0.5"),
        ("temperature=[0.7,nan]", "temperature is at least 0, got nan"),
        ("temperature=[]", r"a list of numbers that all differ, got \[\]"),
        ("temperature=[0.7,1,0.70]", r"a list of numbers that all differ, got \[0.7, 1, 0.7\]"),
        ("temperature=[1,1.0]", "a list of numbers that all differ"),
        ("seed=-1", "a seed is a whole number from 0 to 4294967295, got -1"),
        ("seed=4294967290", "a seed is a whole number from 0 to 4294967295, got 4294967301"),
        ("num_samples=0", "num_samples is a whole number of at least 1, got 0"),
        ("device=xpu:9", "device 'xpu:9' is not on this machine"),
    ],
)
def test_wrong_use_is_named(ckpt: Path, override: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        run_sample(ckpt, override)


@pytest.mark.slow
def test_it_runs_from_the_shell_and_leaves_only_what_it_says(ckpt: Path) -> None:
    script = str(Path(CONF).parent / "sample.py")
    command = [sys.executable, script, f"ckpt={ckpt}", "num_samples=3", "temperature=[0.5,1]"]
    shown = subprocess.run(command, cwd=ckpt.parent, check=True, capture_output=True, text=True).stdout
    assert "samples/grid.png" in shown
    assert sorted(path.name for path in ckpt.parent.iterdir()) == ["flow.safetensors", "samples"]
    assert len(list((ckpt.parent / "samples").rglob("*.png"))) == 2 * 3 + 1
    names = read(ckpt.parent / "samples/grid.png")[:, :, : -(3 * 60 + 12)]
    assert names.shape[1] == 2 * 60 + 12 and names.min() == 0  # there is text


def test_temperatures_that_are_nearly_alike_have_folders_of_their_own(ckpt: Path) -> None:
    out = run_sample(ckpt, "temperature=[0.7,0.70000001,1e-7,0,2]")
    names = {folder.name for folder in out.glob("temperature-*")}
    assert names == {f"temperature-{text}" for text in ("0.7", "0.70000001", "1e-07", "0", "2")}
    assert len(list(out.rglob("temperature-*/*/*.png"))) == 5 * 12


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_that_are_neither_grey_nor_colour_are_refused_before_any_is_drawn(tmp_path: Path, channels: int) -> None:
    ckpt = store(tmp_path, flows.build("glow", **{**SMALL, "image_shape": (channels, 8, 8)}))
    with pytest.raises(ValueError, match=rf"grey\) or 3 \(colour\), and these images have {channels}: .*sample\(seeds"):
        run_sample(ckpt)
    assert not (tmp_path / "out").exists()
    images = load_flow(ckpt).sample([0, 1, 2])
    assert image_grid(images, 2).shape[0] == 3
    assert torch.equal(image_grid(images, 2), image_grid(images[:, :1], 2))


def test_a_picture_is_written_where_a_string_says(tmp_path: Path) -> None:
    for channels in (1, 3):
        picture = torch.randint(0, 256, (channels, 3, 5), dtype=torch.uint8)
        save_png(picture, f"{tmp_path}/new/{channels}.png")
        assert torch.equal(read(tmp_path / f"new/{channels}.png"), picture)
    for wrong in (torch.rand(3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"a picture is uint8 \(C, H, W\), got"):
            save_png(wrong, tmp_path / "wrong.png")


@pytest.mark.parametrize("temperature", [0.7, 1])
def test_samples_of_two_calls_are_not_mixed(ckpt: Path, temperature: float) -> None:
    run_sample(ckpt)
    with pytest.raises(FileExistsError, match=r"grid.png holds samples already: give another folder by out="):
        run_sample(ckpt, f"temperature={temperature}")


def test_images_beside_a_grid_do_not_overwrite_it(ckpt: Path) -> None:
    out = run_sample(ckpt, "images=false", "temperature=1", "num_samples=null")
    before = (out / "grid.png").read_bytes()
    with pytest.raises(FileExistsError, match=r"grid.png holds samples already"):
        run_sample(ckpt, "temperature=0.7")
    assert (out / "grid.png").read_bytes() == before and not (out / "temperature-0.7").exists()


def test_images_without_a_record_are_left_alone(ckpt: Path) -> None:
    (ckpt.parent / "out/temperature-0.7").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"temperature-0\.7 holds samples already"):
        run_sample(ckpt)


GOING_ON = ["temperature=[0.5,1]", "batch_size=5", "seed=3"]


def interrupt(ckpt: Path, at: int, *overrides: str) -> Path:
    """Run a command that is interrupted when it writes a certain picture, and return its folder."""
    written = []

    def save(picture: torch.Tensor, path: Path) -> None:
        if len(written) == at:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "png-7.partial").touch()
            raise KeyboardInterrupt
        written.append(path)
        save_png(picture, path)

    told = "interrupted: the same command goes on if it has out="
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match=told):
        patch.setattr(sample, "save_png", save)
        run_sample(ckpt, *GOING_ON, *overrides)
    return ckpt.parent / "out"


def pictures(folder: Path) -> dict[Path, bytes]:
    """Return the content of each file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("at", [0, 3, 8, 19, 24])
def test_the_same_command_goes_on_and_ends_as_if_never_interrupted(
    ckpt: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pictures(run_sample(ckpt, *GOING_ON, f"out={ckpt.parent}/whole"))
    assert len(expected) == 2 * 12 + 1
    out = interrupt(ckpt, at)
    drawn: list[int] = []
    monkeypatch.setattr(ImageFlow, "sample", counting(drawn))
    assert run_sample(ckpt, *GOING_ON) == out
    whole = {0: 0, 3: 0, 8: 5, 19: 17, 24: 24}[at]  # in whole batches: of 5, 5 and 2 images
    assert len(drawn) == 24 - whole
    assert pictures(out) == expected


def counting(drawn: list[int]) -> Callable[..., torch.Tensor]:
    """Return a `sample` of flows that keeps the seeds."""
    draw = ImageFlow.sample

    def keep(self: ImageFlow, seeds: Sequence[int], *arguments: Any, **settings: Any) -> torch.Tensor:
        drawn.extend(seeds)
        return draw(self, seeds, *arguments, **settings)

    return keep


def test_a_damaged_picture_is_drawn_again(ckpt: Path) -> None:
    expected = pictures(run_sample(ckpt, *GOING_ON, f"out={ckpt.parent}/whole"))
    out = interrupt(ckpt, 12)
    path = out / "temperature-0.5/00000000/00000004.png"
    path.write_bytes(path.read_bytes()[:20])
    run_sample(ckpt, *GOING_ON)
    assert pictures(out) == expected


@pytest.mark.parametrize(
    ("override", "differs"),
    [
        ("temperature=[0.5,0.9]", "temperature"),
        ("seed=4", "seed"),
        ("num_samples=13", "num_samples"),
        ("batch_size=6", "batch_size"),
        ("level_temperature=[1,0.5]", "level_temperature"),
    ],
)
def test_other_settings_do_not_go_on(ckpt: Path, override: str, differs: str) -> None:
    out = interrupt(ckpt, 7)
    before = pictures(out)
    with pytest.raises(FileExistsError, match=f"out holds samples already, .* with another {differs}: give the same"):
        run_sample(ckpt, *GOING_ON, override)
    assert pictures(out) == before


def test_other_weights_and_labels_do_not_go_on(tmp_path: Path) -> None:
    ckpt = conditional(tmp_path)
    interrupt(ckpt, 7)
    conditional(tmp_path)
    with pytest.raises(FileExistsError, match="begun with another ckpt, label: give"):
        run_sample(ckpt, *GOING_ON, "label=1")


def test_a_command_that_drew_nothing_leaves_nothing(ckpt: Path) -> None:
    with pytest.raises(ValueError, match="parallel is for autoregressive maps"):
        run_sample(ckpt, "parallel=true")
    assert [path.name for path in ckpt.parent.iterdir()] == ["flow.safetensors"]


def test_two_commands_do_not_draw_into_one_folder(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(*_: object) -> None:
        monkeypatch.undo()
        with pytest.raises(RuntimeError, match="out is in use by another command: wait, or give another folder by out"):
            run_sample(ckpt, *GOING_ON)
        raise KeyboardInterrupt

    out = interrupt(ckpt, 7)
    monkeypatch.setattr(sample, "Sampler", second)
    with pytest.raises(KeyboardInterrupt):
        run_sample(ckpt, *GOING_ON)
    assert len(list(out.rglob("temperature-*/*/*.png"))) == 7


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Image.Image, path: Path, *_: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        save_png(torch.zeros(1, 4, 4, dtype=torch.uint8), tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_without_a_folder_what_is_unfinished_is_named(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(ckpt, 7).rename(ckpt.parent / "samples")
    monkeypatch.chdir(ckpt.parent)
    assert run_sample(ckpt, *GOING_ON, "out=null") == Path("samples")
    shown = capsys.readouterr().out
    assert "this goes into samples-2\nsamples is unfinished: add out=samples to the command that began it" in shown
    run_sample(ckpt, *GOING_ON, "out=samples")
    assert pictures(Path("samples")) == pictures(Path("samples-2"))


def test_without_a_folder_each_call_writes_into_a_new_one_and_says_so(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ckpt.parent)
    for _ in range(3):
        run_sample(ckpt, "out=null", "images=false", "nrow=null", "num_samples=null")
    assert {path.parent.name for path in ckpt.parent.glob("*/grid.png")} == {"samples", "samples-2", "samples-3"}
    shown = capsys.readouterr().out
    assert "samples is there already: this goes into samples-3\n" in shown and "samples-3/grid.png" in shown
