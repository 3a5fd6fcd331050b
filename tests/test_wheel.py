"""What users of the library get: the wheel, in an environment without Lightning, Hydra and all that training needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import flows
from flows.files import PRETRAINED
from tests.support.command_line import ROOT

pytestmark = pytest.mark.slow

SHIPPED = ["pyproject.toml", "README.md", "LICENSE", "train.py", "sample.py", "flows", "data", "conf", "scripts"]
ABSENT = ["lightning", "hydra", "omegaconf", "wandb", "torchvision", "torchmetrics", "PIL", "rich", "lazy_loader"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

USE = f"""
import importlib.util, sys
import flows, torch
import conf, data

assert not [name for name in {ABSENT} if importlib.util.find_spec(name)]
assert conf.MINE and data.MINE
flow = flows.load("fashion_mnist")
noise = torch.full((2, 1, 28, 28), 0.5)
print(flows.__version__, flows.__file__)
print(flow.log_prob(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), None, noise).tolist())
print(flow.sample(range(2)).double().mean().item())
flows.save(flow, "mine.safetensors")
flows.load("mine.safetensors")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, where building leaves its traces."""
    folder = tmp_path_factory.mktemp("project")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip = sys.executable, "-m", "pip"
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheels", ".", cwd=source)
    (path,) = (source / "wheels").iterdir()
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and, as links, what its dependencies bring."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin/python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    for path in installed(map(Requirement, PROJECT["dependencies"])):
        if not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return python


def installed(requirements: Iterable[Requirement]) -> set[Path]:
    """Return the files and folders, at the top of site-packages, that requirements and theirs have brought here."""
    todo, names, paths = [*requirements], set(), set()
    while todo:
        name = todo.pop().name
        if name not in names:
            names.add(name)
            found = distribution(name)
            tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
            paths |= {Path(str(found.locate_file(top))) for top in tops}
            needed = map(Requirement, found.requires or [])
            todo += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return paths


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command to its good end, away from this checkout, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_flows_and_no_other_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"flows", f"image_flows-{flows.__version__}.dist-info"}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "flows").rglob("*") if path.suffix in (".py", ".pyi")}
    assert files | {"flows/py.typed", *(f"flows/pretrained/{name}.safetensors" for name in PRETRAINED)} <= {*names}


def test_an_editable_install_finds_the_packages_of_the_checkout(source: Path) -> None:
    build = "from setuptools import build_meta; print(build_meta.build_editable('editable'))"
    (source / "editable").mkdir()
    call(sys.executable, "-c", build, cwd=source)
    (path,) = (source / "editable").iterdir()
    with zipfile.ZipFile(path) as archive:
        (pth,) = (name for name in archive.namelist() if name.endswith(".pth"))
        assert archive.read(pth).decode().strip() == str(source)


def test_the_library_is_used_beside_packages_of_the_same_names(python: Path, tmp_path: Path) -> None:
    for name in ("data", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    version_and_place, log_probs, mean = call(python, "-c", USE, cwd=tmp_path).splitlines()
    version, place = version_and_place.split()
    assert version == flows.__version__ and Path(place).is_relative_to(python.parents[1])

    flow = flows.load("fashion_mnist")
    noise = torch.full((2, 1, 28, 28), 0.5)
    expected = flow.log_prob(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), None, noise)
    torch.testing.assert_close(torch.tensor(json.loads(log_probs)), expected.detach())
    assert float(mean) == pytest.approx(flow.sample(range(2)).double().mean().item(), abs=0.01)


@pytest.mark.parametrize("script", ["train.py", "sample.py"])
def test_a_script_without_its_packages_says_how_to_install_them(python: Path, tmp_path: Path, script: str) -> None:
    done = subprocess.run([python, ROOT / script], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert re.fullmatch(r"error: No module named '\w+': in the folder of .*\.py, run (.*)", sentence)
    assert sentence.endswith(f", run {python} -m pip install --editable '.[train]'") and script in sentence
