"""Files of trained flows: they round-trip, they execute nothing, and damaged ones are named."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

import flows
from flows.training import CheckpointError, WholeCheckpointIO, load_flow, save_flow
from tests.perturb import perturb


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
