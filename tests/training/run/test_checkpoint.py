"""Files of trained flows: they round-trip, they execute nothing, and damaged ones are named."""

import errno
import json
import os
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

import flows
from flows.bijections.actnorm import ActNorm
from flows.training import (
    CheckpointError,
    Provenance,
    WholeCheckpointIO,
    check_class_names,
    load_flow,
    save_flow,
    to_json,
)
from tests.support.perturb import perturb


def small_flow(**changes: object) -> flows.ImageFlow:
    spec = {"image_shape": (1, 4, 4), "num_levels": 1, "num_steps": 2, "hidden_channels": 4, **changes}
    return perturb(flows.build("glow", **spec), 0.1)


@pytest.mark.parametrize("permutation", ["conv1x1", "conv1x1_lu", "random", "reversal"])
def test_a_shared_file_is_the_whole_function(permutation: str, tmp_path: Path) -> None:
    flow = small_flow(permutation=permutation)
    save_flow(flow, tmp_path / "flow.safetensors")
    torch.manual_seed(1)
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert loaded.spec == flow.spec and not loaded.training
    assert torch.equal(loaded.sample([0, 1]), flow.sample([0, 1]))


def test_a_flow_that_has_a_layer_twice_is_stored(tmp_path: Path) -> None:
    flow = small_flow()
    first, second = (module for module in flow.modules() if isinstance(module, ActNorm) and len(module.bias) == 4)
    first.bias = second.bias
    save_flow(flow, tmp_path / "flow.safetensors")
    assert torch.equal(load_flow(tmp_path / "flow.safetensors").sample([0, 1]), flow.eval().sample([0, 1]))


class Malicious:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    torch.save({"flow": Malicious(tmp_path / "executed"), "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt .* could run code"):
        load_flow(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    save_flow(small_flow(), tmp_path / "flow.safetensors")
    whole = (tmp_path / "flow.safetensors").read_bytes()
    for name, content in {
        "empty.ckpt": b"",
        "text.ckpt": b"not a checkpoint",
        "empty.safetensors": b"",
        "truncated.safetensors": whole[:-10],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_flow(tmp_path / name)
    with pytest.raises(CheckpointError, match="is a folder"):
        load_flow(tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io, path = WholeCheckpointIO(), tmp_path / "mine/checkpoints/last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    def disk_full(content: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(
        CheckpointError, match=r"No space left .* the one before it is whole; .* run_id=mine resume=auto"
    ):
        io.save_checkpoint({"step": 2}, path)
    assert io.load_checkpoint(path, weights_only=True) == {"step": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_shared_file_tells_where_its_flow_is_from_and_one_that_does_not_still_loads(tmp_path: Path) -> None:
    provenance = Provenance(version="0.9", git_commit="abc", data="Digits {}", class_names=["a", "b"], split="test")
    save_flow(small_flow(), tmp_path / "flow.safetensors", provenance)
    assert load_flow(tmp_path / "flow.safetensors", with_provenance=True)[1] == provenance
    save_flow(small_flow(), tmp_path / "flow.safetensors")
    assert load_flow(tmp_path / "flow.safetensors", with_provenance=True)[1] is None
    assert load_flow("fashion_mnist", with_provenance=True)[0].image_shape == (1, 28, 28)


def test_a_file_of_another_version_says_which(tmp_path: Path) -> None:
    flow = small_flow()
    flow.spec = {**flow.spec, "shape_of_things_to_come": 7}
    save_flow(flow, tmp_path / "flow.safetensors", Provenance(version="0.9", git_commit="abc"))
    with pytest.raises(CheckpointError, match=r"another version .* \(version 0.9, commit abc\): check out"):
        load_flow(tmp_path / "flow.safetensors")


def test_what_another_version_tells_beside_is_left_out() -> None:
    assert Provenance.from_dict({"version": "9", "mood": "good"}) == Provenance(version="9")


def test_classes_that_differ_are_refused_where_both_are_known() -> None:
    check_class_names(["a", "b"], ["a", "b"])
    check_class_names(None, ["a"])
    check_class_names(["a"], None)
    with pytest.raises(ValueError, match="the model knows the classes a, b, but those of the data are b, a: give"):
        check_class_names(["a", "b"], ["b", "a"])


def test_a_number_that_json_lacks_becomes_null() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": ("x", None)}
    assert json.loads(to_json(value), parse_constant=pytest.fail) == {"a": None, "b": [None, 1.5], "c": ["x", None]}
