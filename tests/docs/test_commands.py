"""The commands in the pages run as printed, at tiny sizes and in the order in which a reader meets them."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from torchvision import datasets

import data
import sample
import train
from flows.training.command.names import as_text
from scripts import (
    augment,
    bench,
    classify,
    codecs,
    collect,
    compare_scores,
    compress,
    decompress,
    estimate,
    evaluate,
    quality,
    race,
    score,
    superres,
)
from scripts.edit import (
    apply_attribute,
    decode,
    interpolate,
    make_attribute,
    nearest,
    reconstruct,
    resample_levels,
)
from tests.docs.pages import PAGES, ROOT, blocks, spans, text
from tests.support.run import CONF

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
    "scripts/evaluate.py": (evaluate.main, "evaluate", ["data.num_val=70"]),
    "scripts/estimate.py": (estimate.main, "estimate", ["run_dir=."]),
    "scripts/quality.py": (quality.main, "quality", ["data.num_val=70", "data.batch_size=8", "num_samples=70"]),
    "scripts/superres.py": (superres.main, "superres", ["data.num_val=70", "num_samples=5"]),
    "scripts/codecs.py": (codecs.main, "codecs", []),
    "scripts/score.py": (
        score.main,
        "score",
        ["data.num_val=70", "against.num_val=8", "num_images=8", "num_train=20", "num_bootstrap=5"],
    ),
    "scripts/edit/reconstruct.py": (reconstruct.main, "edit/reconstruct", []),
    "scripts/edit/decode.py": (decode.main, "edit/decode", []),
    "scripts/edit/interpolate.py": (interpolate.main, "edit/interpolate", []),
    "scripts/edit/resample_levels.py": (resample_levels.main, "edit/resample_levels", []),
    "scripts/edit/make_attribute.py": (make_attribute.main, "edit/make_attribute", ["num_images=5"]),
    "scripts/edit/apply_attribute.py": (apply_attribute.main, "edit/apply_attribute", []),
    "scripts/edit/nearest.py": (nearest.main, "edit/nearest", ["data.num_val=70"]),
    "scripts/compress.py": (compress.main, "compress", ["data.num_val=70"]),
    "scripts/decompress.py": (decompress.main, "decompress", []),
    "scripts/augment.py": (augment.main, "augment", ["data.num_val=70", "data.batch_size=8", "num_images=20"]),
    "scripts/classify.py": (
        classify.main,
        "classify",
        ["data.num_val=70", "data.batch_size=8", "num_steps=2", "num_extra=8"],
    ),
}
BATCH_SCRIPTS = {
    "scripts/slurm/train.sbatch": ("train.py", ["trainer=ddp"]),
    "scripts/slurm/sweep.sbatch": ("train.py", ["cluster=slurm"]),
    "scripts/slurm/sample.sbatch": ("sample.py", []),
}
"""The script that each starts, and what it tells it by itself."""
COMPARISON = "scripts/compare_scores.py"
"""A script without a config that is run, too."""
TINY_TRAINING = {
    "data.batch_size": "8",
    "data.num_val": "70",
    "model.hidden_channels": "4",
    "+trainer.enable_progress_bar": "false",
}
FEWER = {"num_samples": 9, "data.num_train": 16}


def in_blocks() -> Iterator[str]:
    """Go through the lines of all blocks of commands."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            yield from block.replace("\\\n", " ").splitlines()


def in_prose() -> Iterator[str]:
    """Go through the commands within sentences and tables."""
    command = re.compile(r"([A-Z_]+=\S+ )*(python|pip|make|sbatch|conda|torchrun|srun) ")
    for page in PAGES:
        yield from filter(command.match, spans(page))


def in_demo() -> Iterator[str]:
    """Go through the commands of `make demo`."""
    (recipe,) = re.findall(r"^demo:.*\n((?:\t.*\n)+)", text("Makefile"), flags=re.MULTILINE)
    yield from re.findall(r"\$\(BIN\)/(python [^;\n]+)", recipe.replace("\\\n", " "))


def split(lines: Iterator[str]) -> list[list[str]]:
    """Return the words of each command, each command once."""
    found = (tuple(shlex.split(line, comments=True)) for line in lines)
    return [list(words) for words in dict.fromkeys(found) if words]


DEMO = split(in_demo())
BLOCKS = split(in_blocks())
COMMANDS = [*BLOCKS, *(words for words in split(in_prose()) if words not in BLOCKS)]
COMPOSED = [words for words in (*DEMO, *COMMANDS) if {*SCRIPTS, *BATCH_SCRIPTS} & {*words}]
JOBS = [
    words
    for words in (*DEMO, *BLOCKS)
    if words[0] == "python"
    and words[1] in {*SCRIPTS, COMPARISON}
    and not {"-m", "--help", "trainer.num_nodes=2"} & {*words}
]
RACES = [words for words in COMMANDS if words[:2] == ["python", "scripts/race.py"]]
SWEEPS = [words for words in BLOCKS if words[:3] == ["python", "train.py", "-m"] and "cluster=slurm" not in words]


def random_set(shape: tuple[int, int, int], class_names: tuple[str, ...] | None = None) -> data.TensorImages:
    images = torch.randint(0, 256, (150, *shape), dtype=torch.uint8)
    return data.TensorImages(images, torch.arange(150) % 10, class_names=class_names)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, small images and a file of one's own, where the commands run one after the other."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    for k in range(100):
        pixels = torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "photos" / f"{k}.png")
    for name in ("a", "b", "c", "shirts/1", "long/1", "short/1"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.effect_noise((28, 28), 50).save(folder / f"{name}.png")
    (folder / "small").mkdir()
    Image.new("L", (7, 7)).save(folder / "small" / "0.png")
    (example,) = (code for code in blocks("docs/extending.md", "python") if "class SinhArcsinh" in code)
    (folder / "my_coupling.py").write_text(example)
    return folder


def run(command: list[str]) -> None:
    _, script, *overrides = command
    if script == COMPARISON:
        return compare_scores.main(overrides)
    main, config, extra = SCRIPTS[script]
    given = {override.split("=")[0]: override for override in overrides}
    overrides = [f"{key}={FEWER[key]}" if key in FEWER else override for key, override in given.items()]
    if script == "train.py":
        names = given["run_id"].split("=")[1] if "run_id" in given else f"job-{abs(hash(tuple(command)))}"
        extra = [*extra, f"run_dir=outputs/{names}"]
        is_of_a_size = "init_from=fashion_mnist" in overrides
        given |= dict.fromkeys(["model.hidden_channels", "model.num_steps"], "") if is_of_a_size else {}
        extra += [f"{key}={value}" for key, value in TINY_TRAINING.items() if key not in given]
        if "callbacks=quality" in overrides:
            extra += ["callbacks.quality.num_samples=70"]
        if "model.num_steps" not in given and not re.search("realnvp|7x7", " ".join(overrides)):
            extra += ["model.num_steps=1"]
        if not torch.cuda.is_available() and {"trainer=gpu", "trainer=ddp"} & {*overrides}:
            extra += ["trainer.accelerator=cpu", "trainer.devices=1"]
    elif script == "scripts/edit/make_attribute.py" and "data" in given:
        extra = [*extra, "data.num_val=70"]
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(config, [*map(as_text, score.with_group(overrides)), *extra])
    if script == "train.py":
        Path(cfg.run_dir).mkdir(parents=True, exist_ok=True)
    main(cfg)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*GPU available but not used")
def test_they_run_in_the_order_in_which_a_reader_meets_them(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(score, "check_split", lambda *_: None)  # there are fewer images here than the flow's run had
    clothes = tuple(datasets.FashionMNIST.classes)
    for source, of in (
        (data.FashionMNIST, ((1, 28, 28), clothes)),
        (data.CIFAR10, ((3, 32, 32),)),
        (data.Photos, ((3, 32, 32),)),
        (data.Emoji, ((3, 28, 28),)),
    ):
        monkeypatch.setattr(source, "prepare", lambda self: None)
        monkeypatch.setattr(source, "load", lambda self, of=of: (random_set(*of), random_set(*of)))
    for command in JOBS:
        print(*command)
        run(command)
    assert len(DEMO) == 2 and (workplace / "outputs/demo/sampled/grid.png").exists()


@pytest.mark.parametrize("command", COMPOSED, ids=" ".join)
def test_every_one_composes(command: list[str]) -> None:
    """By itself, by torchrun or srun, on several machines, as a job of SLURM or as a sweep, of which the first job."""
    started = next(word for word in command if word in SCRIPTS or word in BATCH_SCRIPTS)
    script, overrides = BATCH_SCRIPTS.get(started, (started, []))
    script = next((word.removeprefix("SCRIPT=") for word in command if word.startswith("SCRIPT=")), script)
    words = [word for word in command[command.index(started) + 1 :] if word not in ("-m", "--help")]
    placeholder = {"num_images=N": "num_images=9"}
    first = []
    for word in score.with_group([*overrides, *(placeholder.get(word, word) for word in words)]):
        override = OverridesParser.create().parse_override(word)
        value = next(iter(override.sweep_string_iterator())) if override.is_sweep_override() else None
        first.append(word if value is None else f"{override.key_or_group}={value}")
    with initialize_config_dir(CONF, version_base="1.3"):
        compose(SCRIPTS[script][1], first)


@pytest.mark.parametrize("command", RACES, ids=" ".join)
def test_the_contestants_of_races_compose(command: list[str]) -> None:
    told = race.parse(command[2:])
    with initialize_config_dir(CONF, version_base="1.3"):
        for _, overrides in told.contestants:
            compose("train", [*overrides, *race.limits(told), "run_dir=."])


@pytest.mark.slow
def test_sweeps_run_and_are_collected(workplace: Path) -> None:
    tiny = [*(f"{key}={value}" for key, value in TINY_TRAINING.items()), "callbacks.progress=null"]
    for sweep in SWEEPS:
        last = [*tiny, "data=digits", "trainer.max_steps=1"]
        if "sweep=optuna" in sweep:
            last += ["hydra.sweeper.n_trials=2"]
        if "callbacks=quality" in sweep:
            last += ["callbacks.quality.features={_target_: tests.support.features.Projected}"]
            last += ["callbacks.quality.num_samples=20"]
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *sweep[2:], *last],
            cwd=workplace,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    assert len(list((workplace / "multirun/grid").glob("[0-3]/best.safetensors"))) == 4
    assert len(list((workplace / "multirun/search").glob("trial-*/best.safetensors"))) == 2
    (collecting,) = [command for command in BLOCKS if command[1:] == ["scripts/collect.py", "multirun/grid"]]
    collect.main([str(workplace / collecting[2])])
    assert (workplace / "multirun/grid/collected.csv").exists()


def test_other_scripts_and_modules_exist_and_take_these_options() -> None:
    for command in COMMANDS:
        if command[0] == "python" and command[1] == "-m":
            assert (ROOT / f"{command[2].replace('.', '/')}.py").exists(), command
        elif command[0] == "python":
            assert (ROOT / command[1]).exists(), command
        if command[:2] == ["python", "scripts/bench.py"]:
            bench.parse(command[2:])


def test_batch_scripts_are_sound() -> None:
    assert {word for command in COMMANDS for word in command if word.endswith(".sbatch")} == {*BATCH_SCRIPTS}
    for script in BATCH_SCRIPTS:
        subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_targets_of_make_and_extras_of_pip_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named: list[set[str]] = [set(), set()]
    for command in [*COMMANDS, *split(span for page in PAGES for span in spans(page) if " make " in f" {span} ")]:
        if "make" in command:
            named[0] |= {word for word in command[command.index("make") + 1 :] if "=" not in word}
        if command[0] == "pip":
            named[1] |= {
                extra for words in re.findall(r"\.\[([\w,]+)\]", " ".join(command)) for extra in words.split(",")
            }
    assert named[0] and named[0] <= targets
    assert named[1] and named[1] <= {*project["optional-dependencies"]}


def test_the_layout_is_that_of_the_tree() -> None:
    named = re.findall(r"^    ([\w./]+)  ", text("README.md"), flags=re.MULTILINE)
    for name in named:
        assert (ROOT / name).exists(), name
    rooms = {
        f"{path.parent.relative_to(ROOT)}/" for top in ("flows", "data") for path in ROOT.glob(f"{top}/**/__init__.py")
    }
    assert rooms <= {*named}
