"""Files that hold a trained flow: `.ckpt` resumes a run, `.safetensors` is for sharing."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flows.image_flow import ImageFlow
from flows.registry import build

SPEC_KEY = "flow"
"""Where a checkpoint (or the metadata of a safetensors file) keeps the arguments of `flows.build`."""

log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A file that holds no flow that can be loaded; the message says which file and what to do."""


def load_flow(path: str | Path) -> ImageFlow:
    """Load a flow, on the CPU and in evaluation mode, from a run's `.ckpt` or from a `.safetensors` file.

    A `.ckpt` gives the averaged weights where the run averaged them. Nothing in the file is executed.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    spec, weights = _read_safetensors(path) if Path(path).suffix == ".safetensors" else _read_ckpt(path)
    try:
        flow = build(**spec)
        flow.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: made by another version of this project ({error})") from error
    return flow.eval()


def save_flow(flow: ImageFlow, path: str | Path) -> None:
    """Write the weights of a flow as safetensors, with its spec as JSON in the metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in flow.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt", SPEC_KEY: json.dumps(flow.spec)})


def find_resume(run_dir: str | Path) -> Path | None:
    """Return the newest checkpoint under `run_dir` that loads, or None; those that do not are named in a warning."""
    candidates = Path(run_dir).glob("checkpoints/*.ckpt")
    for path in sorted(candidates, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            _read_ckpt(path)
        except CheckpointError as error:
            log.warning("Not resuming from %s", error)
        else:
            return path
    return None


def _read_ckpt(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _check_file(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        prefix = "flow."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        return checkpoint[SPEC_KEY], weights
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint of this project, or a damaged one ({error})") from error


def _read_safetensors(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()[SPEC_KEY]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise CheckpointError(f"{path}: not a flow of this project, or a damaged file ({error})") from error


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        found = "is a folder" if Path(path).is_dir() else "does not exist"
        raise CheckpointError(f"{path} {found}: give the path of a .ckpt or .safetensors file")
