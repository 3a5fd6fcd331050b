"""What a start does not wait for: packages that it does not need stay unloaded."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import cloudpickle
import pytest

import flows.training
from tests.support.command_line import ROOT

HEAVY = {"lightning", "torchmetrics", "torchvision", "wandb", "matplotlib", "scipy"}


@pytest.mark.parametrize(
    ("code", "unloaded"),
    [
        ("import flows", {*HEAVY, "hydra", "data", "flows.training"}),
        ("import sample", {*HEAVY, "data"}),
        ("import train", {*HEAVY, "data"}),
        ("import flows.training as t; [getattr(t, name) for name in t.__all__]", {"data"}),
    ],
    ids=["flows", "sample.py", "train.py --help", "flows.training"],
)
def test_a_start_leaves_out(code: str, unloaded: set[str]) -> None:
    loaded = f"{code}; import sys; print(*sorted({unloaded} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_names_that_are_imported_late_do_not_hinder_pickling() -> None:
    assert cloudpickle.loads(cloudpickle.dumps(flows.training)) is flows.training


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports when it is loaded, by name."""
    return {
        f"{node.module}.{name.name}"
        if (ROOT / node.module.replace(".", "/") / f"{name.name}.py").exists()
        else node.module
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
        for name in node.names
    }


def test_modules_do_not_wait_for_each_other() -> None:
    paths = {path for top in ("flows", "data") for path in (ROOT / top).rglob("*.py") if path.name != "__init__.py"}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    arrows = {name: imported(path) & names.keys() for name, path in names.items()}
    assert sum(map(len, arrows.values())) > 100
    TopologicalSorter(arrows).prepare()  # raises CycleError
    between = {(one, other) for one, others in arrows.items() for other in others if one[:4] != other[:4]}
    assert {other for _, other in between} == {"flows.noise"} and {one[:4] for one, _ in between} == {"data"}
