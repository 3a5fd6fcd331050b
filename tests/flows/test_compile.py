"""torch.compile: one graph from images to loss, with the values and the gradient of plain torch."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import flows
from flows.training import read_summary
from tests.flows.models.test_models import SPECS, make
from tests.support.command_line import run_script
from tests.support.perturb import perturb
from tests.support.run import TINY, run_training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore"),  # those of torch's own compiler
]


GIVEN = {"num_classes": 3, "condition": "couplings", "condition_shape": (1, 2, 2)}
"""Settings of a flow that reads labels and images in all of its couplings."""
AUTOREGRESSIVE = {"top_prior": "autoregressive", "prior_layers": 1, "prior_width": 32, "num_classes": 3}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("glow", {"dequantize": "variational", "num_steps": 2}),
        ("realnvp", {"num_blocks": 1}),
        ("glow", {**GIVEN, "num_steps": 1}),
        ("realnvp", {**GIVEN, "num_blocks": 1}),
        ("glow", {**AUTOREGRESSIVE, "num_steps": 1, "num_levels": 1}),
    ],
    ids=["glow", "realnvp", "conditional-glow", "conditional-realnvp", "autoregressive-glow"],
)
def test_forward_and_loss_compile_into_one_graph(name: str, settings: dict[str, Any]) -> None:
    spec = {"num_levels": 2, "hidden_channels": 4, "preprocess": "gaussianize", **settings}
    flow = perturb(flows.build(name, image_shape=(1, 8, 8), **spec), 0.1)
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    noise = torch.rand(4, 1, 8, 8)
    label = None if flow.num_classes is None else torch.tensor([0, 2, 1, 2])
    condition = None if flow.condition_shape is None else images[:, :, ::4, ::4]

    def loss() -> Tensor:
        return flows.bits_per_dim(flow(images, label, noise, condition), flow.num_dims).mean()

    results = []
    for compute in (loss, torch.compile(loss, fullgraph=True)):
        flow.zero_grad()
        value = compute()
        value.backward()
        results.append((value.detach(), [p.grad.clone() for p in flow.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("memory_flat", "given"),
    [("false", []), ("true", []), ("true", ["model.num_classes=10", "model.condition=couplings"])],
    ids=["plain", "memory-flat", "conditional-memory-flat"],
)
def test_a_compiled_run_comes_to_what_a_plain_one_does(memory_flat: str, given: list[str], tmp_path: Path) -> None:
    common = ["trainer.max_steps=3", f"model.memory_flat={memory_flat}", *given]
    run_training(tmp_path / "plain", *common)
    torch.compiler.reset()
    counters.clear()
    run_training(tmp_path / "compiled", *common, "compile=true")
    assert counters["stats"]["unique_graphs"] > 0
    plain, compiled = (read_summary(tmp_path / name / "summary.json") for name in ("plain", "compiled"))
    assert compiled["test_bits_per_dim"] == pytest.approx(plain["test_bits_per_dim"], abs=1e-3)


def test_an_empty_file_of_compiled_code_is_named(tmp_path: Path) -> None:
    """A compiler that is killed while it writes leaves such a file, and torch does not compile it again."""
    run = [*TINY, "model.num_steps=1", "model.num_levels=1", "trainer.max_steps=1", "test=false", "run_id=mine"]
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"), "PYTHONWARNINGS": "ignore"}
    assert run_script(tmp_path, "train.py", *run, "compile=true", environment=environment).exit_code == 0
    for file in tmp_path.glob("compiled/*/*.main.so"):
        os.truncate(file, 0)
    shutil.rmtree(tmp_path / "outputs")
    error = run_script(tmp_path, "train.py", *run, "compile=true", environment=environment).error
    folder, again = re.search(r"remove the folder (\S+); start again with (.+) \(", error).groups()
    assert folder == str(tmp_path / "compiled")
    assert run_script(tmp_path, "train.py", *run, *again.split()).exit_code == 0


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("glow", {}),
        ("glow", GIVEN),
        ("realnvp", {"num_blocks": 1}),
        ("glow", {"coupling": "mixture"}),
        ("glow", AUTOREGRESSIVE),
    ],
    ids=["glow", "conditional-glow", "realnvp", "mixture", "autoregressive-glow"],
)
def test_a_compiled_sampler_draws_the_images_of_its_flow_in_one_graph(name: str, settings: dict[str, Any]) -> None:
    spec = {"num_levels": 2, "hidden_channels": 4, "preprocess": "gaussianize", **settings}
    spec |= {"num_steps": 1} if name == "glow" else {}
    flow = perturb(flows.build(name, image_shape=(1, 8, 8), **spec), 0.1)
    label = None if flow.num_classes is None else torch.tensor([0, 2, 1])
    condition = None if flow.condition_shape is None else torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    sampler = flows.Sampler(flow, compile=True)
    torch.compiler.reset()
    counters.clear()
    for seeds in (range(3), range(3, 6)):
        drawn, expected = (of.sample(seeds, label=label, condition=condition).int() for of in (sampler, flow))
        assert (drawn - expected).abs().max() <= 1
    goes_on_until_nothing_changes = settings is AUTOREGRESSIVE or "coupling" in settings
    assert bool(counters["graph_break"]) is goes_on_until_nothing_changes


def test_each_compiled_sampler_draws_from_its_own_flow() -> None:
    torch.compiler.reset()
    spec = {"image_shape": (1, 8, 8), "num_levels": 1, "hidden_channels": 4, "top_prior": "standard"}
    glows = [flows.build("glow", **spec, num_steps=num_steps) for num_steps in (1, 1, 2)]
    made = [perturb(flow, 0.1) for flow in glows]
    for flow, sampler in [(flow, flows.Sampler(flow, compile=True)) for flow in made] * 2:
        assert (sampler.sample(range(2)).int() - flow.sample(range(2)).int()).abs().max() <= 1


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_choice_can_be_compiled(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are run as they are found. What is compiled as a whole raises an error if it is not one graph."""
    whole = torch.compile

    def only_find_graphs(
        function: Callable[..., Tensor], options: Any = None, **settings: Any
    ) -> Callable[..., Tensor]:
        return whole(function, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", only_find_graphs)
    flow, _, label = make(spec, (1, 8, 8))
    drawn, expected = (of.sample(range(3), label=label) for of in (flows.Sampler(flow, compile=True), flow))
    assert torch.equal(drawn, expected)
