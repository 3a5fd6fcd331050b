"""Wrong use gets one sentence that says what is wrong, where and what to do, through the real command line."""

import pickle
import resource
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tests.data.files.test_image_decoding import COLOURS
from tests.support.command_line import Result, run_script
from tests.training.run.test_checkpoint import Malicious

pytestmark = pytest.mark.slow

TINY = [
    "experiment=digits",
    "model.hidden_channels=4",
    "model.num_steps=1",
    "training.num_init_images=32",
    "trainer.max_epochs=1",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
]
FOLDER = ["data=image_folder", "data.source.root=photos", "data.image_shape=[3,16,16]", "data.num_val=2"]
FOLDER += ["data.batch_size=2", "data.num_workers=0"]
PHOTOS = [*TINY, *FOLDER, "trainer.max_steps=1"]


class Case(NamedTuple):
    """A wrong command, what its error has to say, and what has to be there before."""

    script: str
    arguments: list[str]
    says: list[str]
    prepare: Callable[[Path], None] = lambda folder: None
    options: Mapping[str, Any] = MappingProxyType({})


def train(*arguments: str, says: list[str], **rest: Any) -> Case:
    return Case("train.py", [*TINY, *arguments], says, **rest)


def photos(*arguments: str, says: list[str], **rest: Any) -> Case:
    return Case("train.py", [*PHOTOS, *arguments], says, **rest)


def sample(*arguments: str, says: list[str], **rest: Any) -> Case:
    return Case("sample.py", [*arguments], says, **rest)


CONFIG = {
    "unknown key": train("trainer.max_stepz=3", says=["trainer.max_stepz", "did you mean 'max_steps'"]),
    "unknown key at the top": train("ressume=auto", says=["ressume", "did you mean 'resume'"]),
    "unknown argument": train("+trainer.max_stepz=3", says=["trainer.max_stepz", "did you mean 'max_steps'"]),
    "unknown argument of the model": train("+model.num_stepz=3", says=["model", "'num_stepz'", "'num_steps'"]),
    "imports that are no list": train("imports=mine.py", says=["imports", "list", "write 'imports=[mine.py]'"]),
    "imports of no file": sample("imports=[mine.py]", says=["imports: mine.py does not exist", ".py file"]),
    "imports that fail": sample(
        "imports=[mine.py]",
        says=["imports: mine.py cannot be imported", "NameError", "'flow'"],
        prepare=lambda folder: (folder / "mine.py").write_text("flow.register"),
    ),
    "a class of a file that is not imported": train(
        "data.source._target_=mine.Ramps", says=["data.source._target_", "mine.Ramps", "'imports=[FILE.py]'"]
    ),
    "unknown group": train("dataset=mnist", says=["dataset", "no such setting (did you mean 'data'?)"]),
    "unknown group option": train("data=cifar", says=["data=cifar", "did you mean 'cifar10'", "fashion_mnist"]),
    "unknown experiment": train("experiment=glow_cifar", says=["experiment", "did you mean 'glow_cifar10"]),
    "not KEY=VALUE": train("glow", says=["'glow' is not of the form KEY=VALUE"]),
    "wrong type": train("trainer.max_epochs=many", says=["trainer.max_epochs", "valid integer", "'many'"]),
    "wrong type of a learning rate": train("optimizer.lr=fast", says=["optimizer.lr", "valid number", "'fast'"]),
    "wrong type of a model": train("model.num_steps=1.5", says=["model", "num_steps", "whole number", "1.5"]),
    "unknown choice": train("model.scale=tanh", says=["model", "scale is one of", "'tanh'", "did you mean 'tanh"]),
    "num_levels too deep": train("model.num_levels=4", says=["num_levels", "8x8", "by 16", "images of 16 pixels"]),
    "odd image size": train("data.image_shape=[1,9,9]", says=["divisible by 4", "9x9", "8 or 12"]),
    "num_levels 0": train("model.num_levels=0", says=["num_levels", "at least 1, got 0"]),
    "input_limit 0": train("model.input_limit=0", says=["input_limit", "positive number or null, got 0"]),
    "num_bits 0": train("model.num_bits=0", says=["num_bits", "between 1 and 8, got 0"]),
    "num_bits 9": train("model.num_bits=9", says=["num_bits", "between 1 and 8, got 9"]),
    "memory-flat without exact inverses": train(
        "model.memory_flat=true",
        "model.coupling=mixture",
        says=["model: memory_flat", "bijections.3.elementwise (MixtureLogistic)", "set memory_flat=false"],
    ),
    "negative learning rate": train("optimizer.lr=-1", says=["optimizer", "learning rate", "-1"]),
    "two channels": photos("data.image_shape=[2,16,16]", says=["image_shape", "C = 1 (grey) or 3 (colour)", "2"]),
    "batch larger than the set": train("data.batch_size=2000", says=["1500 training images", "batch", "2000"]),
    "batch 0": train("data.batch_size=0", says=["data", "batch_size", "at least 1, got 0"]),
    "more training images than there are": train(
        "data.num_train=1301", says=["data.num_train is 1301", "only 1300 images are left", "make it smaller"]
    ),
    "more images by a flow without labels": Case(
        "scripts/augment.py",
        ["data=digits", "ckpt=mine/best.safetensors", "out=more"],
        ["mine/best.safetensors was trained without labels", "'model.num_classes=${data.num_classes}'", "by=latents"],
    ),
    "more images in a folder that is there": Case(
        "scripts/augment.py",
        ["data=digits", "ckpt=mine/best.safetensors", "by=latents", "out=mine"],
        ["mine is there already", "out="],
    ),
    "more images without classes": Case(
        "scripts/classify.py",
        ["data=digits", "extra=mine"],
        ["extra=mine has", "one subfolder for each of the 10 classes", "scripts/augment.py"],
    ),
    "wrong image shape": train("data.image_shape=[1,16,16]", says=["(1, 16, 16)", "(1, 8, 8)", "image_shape"]),
    "wrong number of classes": train("model.num_classes=7", says=["model.num_classes is 7", "data.num_classes is 10"]),
    "no class labels": photos(
        "data.num_classes=3",
        "model.num_classes=3",
        says=["7 of 7 images", "no label", "num_classes=null"],
        prepare=lambda folder: make_photos(folder / "photos"),
    ),
    "averages in another precision": train("trainer.precision=64-true", says=["64-true", "set callbacks.ema=null"]),
    "no steps": train("trainer.max_epochs=0", says=["no validation ran", "max_epochs"]),
    "negative temperature of grids": train(
        "callbacks.grids.temperatures=[-1]", says=["callbacks.grids", "temperatures are at least 0", "[-1]"]
    ),
    "negative temperature": sample("ckpt=mine/best.safetensors", "temperature=-0.5", says=["temperature", "-0.5"]),
    "temperature of a wrong type": sample("ckpt=a.ckpt", "temperature=hot", says=["temperature", "number", "'hot'"]),
    "num_samples 0": sample("ckpt=a.ckpt", "num_samples=0", says=["num_samples", "at least 1, got 0"]),
    "no pretrained flow": sample("ckpt=mnist", says=["mnist does not exist", "or the name fashion_mnist"]),
    "label of an unconditional flow": sample("ckpt=mine/best.safetensors", "label=3", says=["without labels"]),
    "unknown split": Case(
        "scripts/evaluate.py",
        ["data=digits", "ckpt=mine/best.safetensors", "split=validation"],
        ["split is one of train, val, test", "'validation'"],
    ),
}


def make_photos(folder: Path, count: int = 8) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        pixels = torch.randint(0, 256, (20, 24, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{k}.png")


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def truncate(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1000])

    return cut


def with_metadata(**metadata: str) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        with safe_open(folder / "mine/best.safetensors", framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(weights, folder / "other.safetensors", metadata=metadata)

    return rewrite


def change_spec(folder: Path) -> None:
    checkpoint = torch.load(folder / "mine/checkpoints/last.ckpt", weights_only=True)
    checkpoint["flow"]["shape_of_things_to_come"] = 7
    torch.save(checkpoint, folder / "newer.ckpt")


def save_malicious(folder: Path) -> None:
    torch.save({"flow": Malicious(folder / "executed"), "state_dict": {}}, folder / "evil.ckpt")


CHECKPOINTS = {
    "missing checkpoint": sample("ckpt=none.ckpt", says=["none.ckpt does not exist", "outputs/RUN_ID"]),
    "a folder": sample("ckpt=mine", says=["mine is a folder: give mine/best.safetensors"]),
    "zero bytes": sample("ckpt=empty.ckpt", says=["empty.ckpt is empty"], prepare=write("empty.ckpt", b"")),
    "truncated": sample(
        "ckpt=mine/checkpoints/last.ckpt",
        says=["last.ckpt is damaged"],
        prepare=truncate("mine/checkpoints/last.ckpt"),
    ),
    "not a checkpoint": sample(
        "ckpt=text.ckpt", says=["text.ckpt is no checkpoint"], prepare=write("text.ckpt", b"some text")
    ),
    "another project's checkpoint": sample(
        "ckpt=other.ckpt",
        says=["other.ckpt holds no flow"],
        prepare=lambda folder: torch.save({"state_dict": {}}, folder / "other.ckpt"),
    ),
    "malicious pickle": sample("ckpt=evil.ckpt", says=["evil.ckpt", "could run code"], prepare=save_malicious),
    "malicious pickle to resume": train("resume=evil.ckpt", says=["could run code"], prepare=save_malicious),
    "bare pickle": sample(
        "ckpt=bare.ckpt",
        says=["bare.ckpt is no checkpoint"],
        prepare=lambda folder: write("bare.ckpt", pickle.dumps(Malicious(folder / "executed")))(folder),
    ),
    "wrong model version": sample(
        "ckpt=newer.ckpt", says=["newer.ckpt", "another version", "shape_of_things_to_come"], prepare=change_spec
    ),
    "wrong image shape for the data": Case(
        "scripts/evaluate.py",
        ["data=cifar10", "ckpt=mine/best.safetensors"],
        ["(1, 8, 8)", "(3, 32, 32)", "data=NAME"],
    ),
    "resume with another model": train(
        "resume=mine/checkpoints/last.ckpt",
        "model.num_steps=2",
        says=["another model", "num_steps is 1 there and 2 here"],
    ),
    "resume from nowhere": train("resume=none.ckpt", says=["none.ckpt does not exist"]),
    "safetensors without metadata": sample(
        "ckpt=other.safetensors", says=["other.safetensors", "metadata"], prepare=with_metadata()
    ),
    "safetensors with malformed metadata": sample(
        "ckpt=other.safetensors", says=["other.safetensors", "malformed"], prepare=with_metadata(flow="{")
    ),
    "safetensors with metadata of a wrong kind": sample(
        "ckpt=other.safetensors", says=["other.safetensors", "malformed"], prepare=with_metadata(flow="[1]")
    ),
    "truncated safetensors": sample(
        "ckpt=mine/best.safetensors", says=["best.safetensors is damaged"], prepare=truncate("mine/best.safetensors")
    ),
}


def with_photo(name: str, content: bytes | Image.Image) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        make_photos(folder / "photos")
        if isinstance(content, Image.Image):
            content.save(folder / "photos" / name)
        else:
            (folder / "photos" / name).write_bytes(content)

    return prepare


def with_truncated_photo(folder: Path) -> None:
    make_photos(folder / "photos")
    path = folder / "photos/7.png"
    path.write_bytes(path.read_bytes()[:600])


def half_finished_download(folder: Path) -> None:
    raw = folder / "datasets/FashionMNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"half of it")


def begin_samples(folder: Path) -> None:
    (folder / "begun/temperature-0.7").mkdir(parents=True)
    (folder / "begun/unfinished.json").write_text("{}")


def put_a_damaged_font(folder: Path) -> None:
    (folder / "datasets/emoji").mkdir(parents=True)
    (folder / "datasets/emoji/NotoColorEmoji.ttf").write_bytes(b"damaged")


FATAL = "data.source.on_damaged=raise"
NO_NETWORK = {"PATH": "/nowhere", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}

DATA = {
    "missing folder": photos(says=["no folder photos", "give the folder"]),
    "empty folder": photos(says=["photos", "no image"], prepare=lambda folder: (folder / "photos").mkdir()),
    "unreadable folder": photos(
        says=["photos", "Permission denied"],
        prepare=lambda folder: (folder / "photos").mkdir(mode=0o000),
        options={"as_anyone": True},
    ),
    "truncated image": photos(FATAL, says=["7.png cannot be decoded", "on_damaged=skip"], prepare=with_truncated_photo),
    "zero-byte image": photos(FATAL, says=["void.png is empty"], prepare=with_photo("void.png", b"")),
    "no image": photos(FATAL, says=["text.jpg is no image"], prepare=with_photo("text.jpg", b"some text")),
    "image smaller than the crop": photos(
        FATAL, says=["dot.png is too small: 3x2"], prepare=with_photo("dot.png", Image.new("RGB", (3, 2)))
    ),
    "decompression bomb": photos(
        FATAL, says=["bomb.png", "decompression bomb"], prepare=with_photo("bomb.png", Image.new("1", (10_000, 10_000)))
    ),
    "only damaged images": photos(
        "data.source.root=one",
        says=["none of the 1 images in one is usable"],
        prepare=lambda folder: (folder / "one").mkdir() or (folder / "one/a.png").touch(),
    ),
    "half-finished download": Case(
        "train.py",
        ["data=fashion_mnist", "data_root=datasets"],
        ["Fashion-MNIST is out of reach", "datasets/FashionMNIST/raw by hand", "train-images-idx3-ubyte"],
        half_finished_download,
        {"environment": NO_NETWORK},
    ),
    "a font without bitmaps": Case(
        "train.py",
        ["data=emoji", "data_root=datasets"],
        ["datasets/emoji/NotoColorEmoji.ttf is no bitmap font (CBDT)", "fonts-noto-color-emoji there, or remove it"],
        put_a_damaged_font,
    ),
}

KILOBYTES_OF_A_FILE = {resource.RLIMIT_FSIZE: 50_000}

RUNS = {
    "diverging": train(
        "optimizer.lr=1e30",
        "training.schedule.warmup_steps=0",
        says=["diverged at step 1", "loss nan", "gradient norm nan", "learning rate 1e+30", "on_nonfinite=skip"],
    ),
    "no space for a checkpoint": train(
        says=["best.ckpt cannot be written (File too large)", "make room", "resume=auto"],
        options={"limits": KILOBYTES_OF_A_FILE},
    ),
    "output folder not writable": train(
        "hydra.run.dir=locked/run",
        says=["locked/run", "Permission denied", "another folder"],
        prepare=lambda folder: (folder / "locked").mkdir(mode=0o500),
        options={"as_anyone": True},
    ),
    "samples not writable": sample(
        "ckpt=mine/best.safetensors",
        "out=locked/samples",
        says=["locked/samples", "Permission denied"],
        prepare=lambda folder: (folder / "locked").mkdir(mode=0o500),
        options={"as_anyone": True},
    ),
    "no GPU": train("trainer.accelerator=gpu", says=["trainer", "No supported gpu", "trainer=cpu"]),
    "no GPU to sample on": sample("ckpt=mine/best.safetensors", "device=cuda", says=["'cuda'", "device=cpu"]),
    "out of memory": train(
        "model.hidden_channels=60000",
        says=["out of memory", "data.batch_size", "memory_flat=true"],
        options={"limits": {resource.RLIMIT_AS: 12 << 30}},
    ),
    "jobs of SLURM without a number of devices": train(
        "cluster=slurm", "trainer=ddp", "seed=0,1", "-m", says=["trainer.devices is auto", "give that"]
    ),
    "a node without the run's name": train(
        says=["the nodes of one run need a common name: give run_id=NAME on each"],
        options={"environment": {"NODE_RANK": "1"}},
    ),
    "a run that is there": train("run_id=mine", "hydra.run.dir=mine", says=["mine holds a run", "resume=auto"]),
    "samples that are there": sample(
        "ckpt=mine/best.safetensors",
        "out=drawn",
        says=["holds samples already", "out="],
        prepare=lambda folder: (folder / "drawn/temperature-0.7").mkdir(parents=True),
    ),
    "samples that another command began": sample(
        "ckpt=mine/best.safetensors",
        "out=begun",
        says=["begun holds samples already, which were begun with another ckpt, temperature", "to go on", "out="],
        prepare=begin_samples,
    ),
    "a result that is there": Case(
        "scripts/evaluate.py",
        ["data=digits", "ckpt=mine/best.safetensors", "out=found.json"],
        ["out=found.json holds a result already", "give another path, or remove it"],
        lambda folder: (folder / "found.json").touch(),
    ),
}

CASES = {**CONFIG, **DATA, **CHECKPOINTS, **RUNS}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    result = run_script(folder, "train.py", *TINY, "hydra.run.dir=mine")
    assert result.exit_code == 0, result.stderr
    return folder / "mine"


def run_case(case: Case, folder: Path, finished_run: Path) -> Result:
    shutil.copytree(finished_run, folder / "mine")
    case.prepare(folder)
    return run_script(folder, case.script, *case.arguments, **case.options)


@pytest.mark.parametrize("name", CASES)
def test_wrong_use_gets_one_sentence(name: str, tmp_path: Path, finished_run: Path) -> None:
    result = run_case(CASES[name], tmp_path, finished_run)
    assert result.exit_code == 1
    for part in CASES[name].says:
        assert part in result.error
    assert not (tmp_path / "executed").exists()


def test_damaged_images_are_named_counted_and_left_out(tmp_path: Path) -> None:
    with_photo("text.jpg", b"some text")(tmp_path)
    result = run_script(tmp_path, "train.py", *PHOTOS)
    assert result.exit_code == 0, result.stderr
    log = next(tmp_path.rglob("train.log")).read_text()
    assert log.count("left out: photos/text.jpg is no image") == 1 and "photos: 9 images, 1 left out" in log


def test_images_of_every_kind_are_taken(tmp_path: Path) -> None:
    for name, (image, options, _) in COLOURS.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        image.save(path, **options)
    result = run_script(tmp_path, "train.py", *PHOTOS, "data.source.enlarge=true")
    assert result.exit_code == 0, result.stderr
    assert f"photos: {len(COLOURS)} images, 0 left out" in next(tmp_path.rglob("train.log")).read_text()


def test_the_traceback_is_there_for_the_asking(tmp_path: Path) -> None:
    result = run_script(tmp_path, "train.py", *TINY, "optimizer.lr=-1", environment={"HYDRA_FULL_ERROR": "1"})
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "Invalid learning rate" in result.stderr
