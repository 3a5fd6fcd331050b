"""What a start does not wait for: packages that it does not need stay unloaded."""

import subprocess
import sys

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
    ],
    ids=["flows", "sample.py", "train.py --help"],
)
def test_a_start_leaves_out(code: str, unloaded: set[str]) -> None:
    loaded = f"{code}; import sys; print(*sorted({unloaded} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_names_that_are_imported_late_do_not_hinder_pickling() -> None:
    assert cloudpickle.loads(cloudpickle.dumps(flows.training)) is flows.training
