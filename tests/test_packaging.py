"""The ways to install agree with each other, and bring what is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

import flows

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CORE, TRAIN = PROJECT["dependencies"], PROJECT["optional-dependencies"]["train"]

OWN = {"flows", "data", "scripts"}
FOR_SOME = {"scikit-learn", "fonttools", "normflows", "nflows", "freia"}
FOR_SOME |= {"constriction", "torch-fidelity", "pillow-jxl-plugin", "optuna"}
"""What only some data sets, plots and comparisons need; they say so where it is missing."""


def name(requirement: str) -> str:
    """Return the name of a distribution, as pip compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[ ]", requirement)[0]).lower()


def test_conda_and_pip_users_get_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(item["pip"] for item in environment if isinstance(item, dict))
    fixed = {name(requirement): requirement for requirement in [*CORE, *TRAIN]}  # the pin comes after the range
    assert sorted(pip) == sorted([*fixed.values(), "-e .[train]"])
    assert f"python{PROJECT['requires-python']}" in environment


def test_make_installs_what_training_needs() -> None:
    assert "pip install --editable '.[train]'\n" in (ROOT / "Makefile").read_text()
    assert any("train]" in requirement for requirement in PROJECT["optional-dependencies"]["test"])


def test_the_core_leaves_a_choice_of_torch_and_training_has_one() -> None:
    assert [r for r in CORE if name(r) == "torch"] == ["torch>=2.6,<3"]
    assert {name(r) for r in TRAIN if "==" in r} == {"torch", "torchvision"}


def test_the_wheel_holds_every_room_of_flows_and_nothing_else() -> None:
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "flows").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found
    for pattern in PYPROJECT["tool"]["setuptools"]["package-data"]["flows"]:
        assert any((ROOT / "flows").glob(pattern)), pattern
    assert (ROOT / "flows/py.typed").exists()


def test_there_is_one_version() -> None:
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "flows.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", flows.__version__)


def imported(paths: Iterable[Path]) -> set[str]:
    """Return the distributions that files import, wherever in the file."""
    modules: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module.partition(".")[0])
    brought_by = packages_distributions()
    return {name(brought_by[module][0]) for module in modules - OWN - sys.stdlib_module_names}


def test_what_is_imported_is_declared() -> None:
    core = [path for path in (ROOT / "flows").rglob("*.py") if "training" not in path.parts]
    rest = [ROOT / "train.py", ROOT / "sample.py"]
    rest += [path for top in ("flows/training", "data", "scripts") for path in (ROOT / top).rglob("*.py")]
    assert {"torch", "safetensors"} <= imported(core) - FOR_SOME <= {*map(name, CORE)}
    assert imported(rest) - FOR_SOME <= {*map(name, [*CORE, *TRAIN])}
    unused = {*map(name, TRAIN)} - imported(rest)
    assert not unused
