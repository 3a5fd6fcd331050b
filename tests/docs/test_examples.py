"""The examples in Python hold, each by itself, and so do the configs that go with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import data
from flows.bijections.chain import Chain
from flows.models.glow import PERMUTATIONS
from flows.models.registry import MODELS
from tests.docs.pages import PAGES, blocks
from tests.support.run import CONF

EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]
IDS = [page for page, _ in EXAMPLES]


@pytest.fixture(autouse=True)
def choices_as_before() -> Iterator[None]:
    """Take back what an example registers."""
    before = [(choices, dict(choices)) for choices in (PERMUTATIONS, MODELS)]
    yield
    for choices, known in before:
        choices.clear()
        choices.update(known)


def names_of(page: str, code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, page, "exec"), names)
    return names


def with_name(name: str) -> dict[str, Any]:
    """Run the one example that defines a class of this name."""
    (example,) = [(page, code) for page, code in EXAMPLES if f"class {name}" in code]
    return names_of(*example)


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=IDS)
def test_it_holds(page: str, code: str) -> None:
    names_of(page, code)


def test_the_transform_holds_in_every_precision_and_on_every_device() -> None:
    names = with_name("Householder")
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


def test_the_config_of_the_data_set_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "Ramps", with_name("Ramps")["Ramps"], raising=False)
    (config,) = blocks("docs/extending.md", "yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ramps.yaml").write_text(config)
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["data=ramps", f"hydra.searchpath=[{tmp_path}]", "run_dir=."])
    made = instantiate(cfg.data)
    made.prepare_data()
    made.setup()
    assert next(iter(made.train_dataloader())).images.shape == (32, 1, 8, 8)
