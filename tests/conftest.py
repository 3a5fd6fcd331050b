"""Shared set-up: one thread, one seed, plain warnings."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, which the process that hands out the tests need not do


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-slurm", action="store_true", help="fail where the slurm tests cannot run")


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Forget what a command that ran inside a test has set in the environment, and how it has set up logging."""
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers[:]:
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture
def double() -> None:
    """Compute in float64 for the length of a test."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a run of one epoch with an optimizer, made at the first call: copy it, or leave it alone."""
    from tests.support.run import run_training
    from tests.training.run.test_resumed_settings import OPTIMIZERS, SMALL

    made: dict[str, Path] = {}

    def run(optimizer: str = "muon") -> Path:
        if optimizer not in made:
            made[optimizer] = tmp_path_factory.mktemp(optimizer)
            run_training(made[optimizer], *SMALL, *OPTIMIZERS[optimizer], "trainer.max_epochs=1")
        return made[optimizer]

    return run
