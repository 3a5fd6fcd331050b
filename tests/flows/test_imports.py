"""What a start does not wait for: packages that it does not need stay unloaded."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import cloudpickle
import pytest

import flows.training
from tests.support.command_line import ROOT

OF_COMMANDS = {"hydra", "omegaconf", "pydantic", "rich", "PIL", "lazy_loader"}
HEAVY = {"lightning", "torchmetrics", "torchvision", "wandb", "matplotlib", "scipy"}
EVERY_MODULE = (
    "import importlib, pkgutil, flows; "
    "[importlib.import_module(one.name) for one in pkgutil.walk_packages(flows.__path__, 'flows.')]"
)


@pytest.mark.parametrize(
    ("code", "unloaded"),
    [
        ("import flows", {*HEAVY, *OF_COMMANDS, "data", "flows.training"}),
        ("import sample", {*HEAVY, "data"}),
        ("import train", {*HEAVY, "data"}),
        ("import flows.training as t; [getattr(t, name) for name in t.__all__]", {"data"}),
        (EVERY_MODULE, {"data"}),
    ],
    ids=["flows", "sample.py", "train.py --help", "flows.training", "every module of flows"],
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


def for_type_checkers(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Go through a syntax tree, but for what is there for type checkers only."""
    yield node
    if not for_type_checkers(node):
        for child in ast.iter_child_nodes(node):
            yield from at_run_time(child)


def test_flows_needs_no_package_beside_it_at_run_time() -> None:
    """Imports within functions included."""
    found = []
    for path in (ROOT / "flows").rglob("*.py"):
        for node in at_run_time(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            found += [name.partition(".")[0] for name in names]
    assert "torch" in found
    assert not {"data", "scripts", "train", "sample", "tests"} & {*found}


def test_modules_do_not_wait_for_each_other() -> None:
    paths = {path for top in ("flows", "data") for path in (ROOT / top).rglob("*.py") if path.name != "__init__.py"}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    arrows = {name: imported(path) & names.keys() for name, path in names.items()}
    assert sum(map(len, arrows.values())) > 100
    TopologicalSorter(arrows).prepare()  # raises CycleError
    between = {(one, other) for one, others in arrows.items() for other in others if one[:4] != other[:4]}
    assert {other for _, other in between} == {"flows.noise"} and {one[:4] for one, _ in between} == {"data"}
