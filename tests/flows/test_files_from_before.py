"""Files that were written before flows could be conditioned: they load, with the same values and gradients.

`support/before/` holds flows that version 0.1.0 saved at commit 348944a, and what they computed there.
"""

import json

import pytest
import torch

from flows.training import load_flow
from tests.support.command_line import ROOT

FOLDER = ROOT / "tests/support/before"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("memory_flat", [False, True])
@pytest.mark.parametrize("name", EXPECTED)
def test_values_and_gradients_are_those_of_then(name: str, memory_flat: bool) -> None:
    flow = load_flow(FOLDER / f"{name}.safetensors")
    for level in flow.multiscale.levels:
        level.memory_flat = memory_flat
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 2, 1]) if flow.num_classes else None
    log_prob = flow.log_prob(images, label, noise)
    torch.testing.assert_close(log_prob, torch.tensor(EXPECTED[name]["log_prob"]), rtol=1e-5, atol=0)
    log_prob.sum().backward()
    norms = {key: parameter.grad.norm().item() for key, parameter in flow.named_parameters()}
    assert norms.keys() == EXPECTED[name]["gradient_norm"].keys()
    assert norms == pytest.approx(EXPECTED[name]["gradient_norm"], rel=1e-3)
    for key, parameter in flow.named_parameters():  # one number that knows of signs and order, too
        direction = torch.arange(1, parameter.numel() + 1, dtype=torch.float64).cos()
        along = (parameter.grad.double().flatten() @ direction).item()
        assert along == pytest.approx(EXPECTED[name]["gradient_along"][key], abs=1e-4 * norms[key]), key
