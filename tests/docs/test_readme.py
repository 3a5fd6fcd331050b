"""The README is true: its commands run as printed (at tiny sizes), its examples hold, its files exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import data
import sample
import train
from flows.bijections.chain import Chain
from scripts import collect, estimate, evaluate, race
from tests.support.run import CONF

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("python ")
]
JOBS = [
    command
    for command in COMMANDS
    if not {"-m", "--help", "trainer.num_nodes=2"} & set(command)
    and command[1] not in ("scripts/collect.py", "scripts/race.py")
]
RACES = [command for command in COMMANDS if command[1] == "scripts/race.py"]
SWEEPS = [command for command in COMMANDS if "-m" in command and "cluster=slurm" not in command]

SCRIPTS = {
    "train.py": (
        train.main,
        "train",
        [
            "trainer.max_steps=2",
            "callbacks.progress=null",
            "training.num_init_images=16",
            "trainer.log_every_n_steps=1",
        ],
    ),
    "sample.py": (sample.main, "sample", ["batch_size=8"]),
    "scripts/evaluate.py": (evaluate.main, "evaluate", ["data.num_val=8"]),
    "scripts/estimate.py": (estimate.main, "estimate", ["run_dir=."]),
}
TINY_TRAINING = {
    "data.batch_size": "8",
    "data.num_val": "8",
    "model.hidden_channels": "4",
    "+trainer.enable_progress_bar": "false",
}


def random_set(shape: tuple[int, int, int]) -> data.TensorImages:
    return data.TensorImages(torch.randint(0, 256, (40, *shape), dtype=torch.uint8), torch.arange(40) % 10)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, where the commands run one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    for k in range(100):
        pixels = torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "photos" / f"{k}.png")
    return folder


def run(command: list[str]) -> None:
    _, script, *overrides = command
    main, config, extra = SCRIPTS[script]
    given = {override.split("=")[0]: override for override in overrides}
    if script == "train.py":
        names = given["run_id"].split("=")[1] if "run_id" in given else f"job-{abs(hash(tuple(command)))}"
        extra = [*extra, f"run_dir=outputs/{names}"]
        extra += [f"{key}={value}" for key, value in TINY_TRAINING.items() if key not in given]
        if "model=realnvp" not in overrides and "model.num_steps" not in given:
            extra += ["model.num_steps=1"]
        if "trainer=gpu" in overrides and not torch.cuda.is_available():
            extra += ["trainer.accelerator=cpu"]
    elif "num_samples" in given:
        overrides = [o if not o.startswith("num_samples") else "num_samples=9" for o in overrides]
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(config, [*overrides, *extra])
    if script == "train.py":
        Path(cfg.run_dir).mkdir(parents=True, exist_ok=True)
    main(cfg)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*GPU available but not used")
def test_its_commands_run_in_the_order_printed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for source, shape in (data.FashionMNIST, (1, 28, 28)), (data.CIFAR10, (3, 32, 32)):
        monkeypatch.setattr(source, "prepare", lambda self: None)
        monkeypatch.setattr(source, "load", lambda self, shape=shape: (random_set(shape), random_set(shape)))
    for command in JOBS:
        print(*command)
        run(command)


@pytest.mark.parametrize("command", RACES, ids=" ".join)
def test_the_contestants_of_its_races_compose(command: list[str]) -> None:
    told = race.parse(command[2:])
    with initialize_config_dir(CONF, version_base="1.3"):
        for _, overrides in told.contestants:
            compose("train", [*overrides, *race.limits(told), "run_dir=."])


@pytest.mark.slow
def test_its_sweeps_run_and_are_collected(workplace: Path) -> None:
    tiny = [*(f"{key}={value}" for key, value in TINY_TRAINING.items()), "callbacks.progress=null"]
    for sweep in SWEEPS:
        last = [*tiny, "data=digits", "trainer.max_steps=1"]
        if "sweep=optuna" in sweep:
            last += ["hydra.sweeper.n_trials=2"]
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *sweep[2:], *last],
            cwd=workplace,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    assert len(list((workplace / "multirun/grid").glob("[0-3]/best.safetensors"))) == 4
    assert len(list((workplace / "multirun/search").glob("trial-*/best.safetensors"))) == 2
    (collecting,) = [command for command in COMMANDS if command[1] == "scripts/collect.py"]
    collect.main([str(workplace / collecting[2])])
    assert (workplace / "multirun/grid/collected.csv").exists()


def test_the_batch_scripts_that_it_names_are_sound() -> None:
    scripts = {word for block in blocks("bash") for word in block.split() if word.endswith(".sbatch")}
    assert len(scripts) == 2
    for script in scripts:
        subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("command", JOBS, ids=" ".join)
def test_every_command_composes(command: list[str]) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        compose(SCRIPTS[command[1]][1], command[2:])


def test_help_shows_the_groups() -> None:
    shown = subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for group in ("data: ", "model: ", "optimizer: ", "trainer: ", "logger: ", "experiment: "):
        assert group in shown


EXAMPLES = dict(zip(("library", "transform", "data set"), blocks("python"), strict=True))


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_examples_hold(name: str) -> None:
    exec(compile(EXAMPLES[name], "README.md", "exec"), {})


def test_its_transform_holds_in_every_precision_and_on_every_device() -> None:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES["transform"], "README.md", "exec"), names)
    flow, images = names["flow"].double(), names["images"]
    assert torch.equal(flow.decode(flow.encode(images)), images)
    flow.log_prob(images).sum().backward()
    chain, x = Chain(*(names["Householder"](4) for _ in range(2))).double(), torch.randn(2, 4, 3, 3).double()
    z, log_det = chain(x)
    torch.testing.assert_close(chain.inverse(z), x)
    assert log_det.dtype == torch.float64
    elsewhere = flow.to("meta")  # any device but the CPU
    log_prob = elsewhere.log_prob(images.to("meta"))
    assert log_prob.device.type == "meta" and log_prob.dtype == torch.float64
    assert elsewhere.sample([0, 1]).device.type == "meta"


def test_what_it_names_exists() -> None:
    for name in re.findall(r"^    ([\w./]+)  ", TEXT, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([\w./-]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", TEXT)) <= targets | {"sure"}
