"""Starting from the weights of another flow."""

from pathlib import Path
from typing import Any

import pytest
import torch

import flows
from flows.files import CheckpointError
from flows.image_flow import ImageFlow
from flows.warm_start import new_parts, warm_start
from tests.support.perturb import perturb

SPEC: dict[str, Any] = {
    "name": "glow",
    "image_shape": (1, 8, 8),
    "num_levels": 2,
    "num_steps": 1,
    "hidden_channels": 4,
    "preprocess": "gaussianize",
    "top_prior": "position",
    "num_classes": 3,
}
IMAGES = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    flow = perturb(flows.build(**SPEC), 0.1)
    flows.save(flow, tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


def made(**changes: Any) -> ImageFlow:
    return flows.build(**{**SPEC, **changes})


def equal(flow: ImageFlow, source: Path, names: list[str]) -> bool:
    mine, other = flow.state_dict(), flows.load(source).state_dict()
    return all(torch.equal(mine[name], other[name]) for name in names)


def test_the_same_model_takes_all_weights_and_is_initialised(source: Path) -> None:
    flow = made()
    found = warm_start(flow, source)
    assert equal(flow, source, found.taken) and found.taken == list(flow.state_dict())
    assert not found.left and not found.new and flow.initialized
    assert str(found) == f"{len(found.taken)} weights taken from {source}"


def test_other_classes_are_refused_or_new(source: Path) -> None:
    flow, name = made(num_classes=5), "multiscale.top.embedding.weight"
    with pytest.raises(ValueError, match=rf"{name} \(\(3, 64\) there, \(5, 64\) here\).*init_strict=false"):
        warm_start(flow, source)
    before = flow.state_dict()[name].clone()
    found = warm_start(flow, source, strict=False)
    assert found.new == found.left == [name] and equal(flow, source, found.taken)
    assert torch.equal(flow.state_dict()[name], before) and not flow.initialized
    assert f"1 new: {name}" in str(found)


def test_weights_of_another_head_are_listed(source: Path) -> None:
    found = warm_start(made(top_prior="autoregressive"), source, strict=False)
    assert found.left == ["multiscale.top.bias", "multiscale.top.embedding.weight"]
    assert found.new and all(name.startswith("multiscale.top.") for name in found.new)
    assert f"{len(found.new)} new: multiscale.top.bijections" in str(found)


def test_what_is_skipped_stays_new_and_only_this_is_initialised(source: Path) -> None:
    flow, first = made(), "multiscale.levels.0.bijections.0.logits"
    found = warm_start(flow, source, skip=["*.logits"])
    assert found.new == [first] and flow.state_dict()[first].abs().max() == 0
    flows.initialize(flow, IMAGES, LABELS, parts=new_parts(flow, found))
    assert flow.state_dict()[first].std() > 0 and equal(flow, source, found.taken)


def test_weights_of_the_file_alone_are_skipped_too(source: Path) -> None:
    flow = made(top_prior="autoregressive")
    found = warm_start(flow, source, skip=["multiscale.top.*"])
    assert found.left == ["multiscale.top.bias", "multiscale.top.embedding.weight"]
    assert warm_start(made(num_classes=None), source, skip=["multiscale.top.embedding.*"]).new == []


def test_new_members_of_a_folded_layer_are_initialised_alone(source: Path) -> None:
    flow = made()
    found = warm_start(flow, source, skip=["*.members.0.*"])
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    flows.initialize(flow, IMAGES, LABELS, parts=new_parts(flow, found))
    changed = [name for name, value in flow.state_dict().items() if not torch.equal(value, before[name])]
    assert sorted(changed) == sorted(found.new)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"skip": ["nowhere.*"]},
            r"no weight of the model or of .* has a name like nowhere\.\*: those of .* mult",
        ),
        ({"skip": "*.logits"}, r"a list of patterns, as in .*, got '\*\.logits'"),
        ({"skip": ["*"]}, "no weight of .* is taken"),
    ],
    ids=str,
)
def test_wrong_use_is_told(source: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        warm_start(made(), source, **arguments)


def test_a_flow_of_which_nothing_fits_is_refused(source: Path) -> None:
    flow = flows.build("tarflow", image_shape=(3, 8, 8), num_blocks=1, num_layers=1, width=4, num_heads=1)
    with pytest.raises(ValueError, match="none fits the model"):
        warm_start(flow, source, strict=False)


@pytest.mark.parametrize("name", ["nosuch.safetensors", "text.safetensors", "fashion_mnst"])
def test_files_that_hold_no_flow_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(CheckpointError):
        warm_start(made(), tmp_path / name)
