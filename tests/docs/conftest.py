"""Examples leave no choices behind."""

import sys
from collections.abc import Iterator

import pytest

from flows.bijections.elementwise import COUPLINGS
from flows.bijections.preprocess import PREPROCESSES
from flows.bijections.scale import SCALES
from flows.models.glow import PERMUTATIONS
from flows.models.registry import MODELS
from flows.networks.conditioner import ACTIVATIONS, HIDDEN_CONVS


@pytest.fixture(autouse=True)
def choices_as_before() -> Iterator[None]:
    """Take back what an example, or a file that a command imports, adds."""
    tables = ACTIVATIONS, COUPLINGS, HIDDEN_CONVS, MODELS, PERMUTATIONS, PREPROCESSES, SCALES
    before = [dict(choices) for choices in tables]
    path = [*sys.path]
    yield
    sys.path[:] = path
    sys.modules.pop("my_coupling", None)
    for choices, known in zip(tables, before, strict=True):
        choices.clear()
        choices.update(known)
