"""Every shipped model makes its tensors on the device and in the precision of its parameters."""

from typing import Any

import pytest
import torch

import flows
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.scale import SCALES
from flows.prior import TopPrior
from tests.flows.models.test_models import GLOW, REALNVP, SPECS
from tests.flows.test_context import CONDITIONS
from tests.support.fake_device import DEVICES, assert_holds_on

CHOICES: dict[str, dict[str, Any]] = {
    **SPECS,
    **{f"realnvp-{value}": {**REALNVP, "coupling": value} for value in COUPLINGS},
    **{f"realnvp-{value}": {**REALNVP, "scale": value} for value in SCALES},
    **{f"realnvp-{value}": {**REALNVP, "top_prior": value} for value in TopPrior.KINDS},
    **{
        f"{spec['name']}-given-{kind.replace(' ', '-')}": {**spec, **settings}
        for spec in (GLOW, REALNVP)
        for kind, settings in CONDITIONS.items()
    },
}
FLAT = {
    f"memory-flat-{name}": {**spec, "memory_flat": True}
    for name, spec in CHOICES.items()
    if spec.get("coupling") != "mixture" and spec["name"] != "tarflow"  # no exact inverse, nothing to rebuild
}
QUICK = {
    (name, torch.float64)  # which torch makes only where it is told to
    for name in (*(name for name in CHOICES if name.startswith("glow")), "realnvp", "memory-flat-glow-given-both")
}


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        pytest.param(spec, dtype, id=f"{name}-{dtype}", marks=() if (name, dtype) in QUICK else pytest.mark.slow)
        for name, spec in {**CHOICES, **FLAT}.items()
        for dtype in (torch.float32, torch.float64)
    ],
)
def test_it_holds(spec: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for device in DEVICES:
        assert_holds_on(device, flows.build(image_shape=(1, 8, 8), **spec).to(dtype), monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_made_on_the_wrong_device_is_found(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flows.build(image_shape=(1, 8, 8), **GLOW)
    bias = flow.multiscale.top.bias
    assert bias is not None
    monkeypatch.setattr(flow.multiscale.top, "mean_and_log_sigma", lambda x, context: torch.zeros(bias.shape)[None])
    with pytest.raises(RuntimeError, match="same device"):
        assert_holds_on(device, flow, monkeypatch)
