"""Files that hold a trained flow: `.ckpt` resumes a run, `.safetensors` is for sharing."""

import json
import logging
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, overload

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flows.arguments import UnknownChoiceError, did_you_mean
from flows.image_flow import ImageFlow
from flows.models.registry import build
from flows.training.run.provenance import PROVENANCE_KEY, Provenance
from flows.training.run.valid_json import to_json

SPEC_KEY = "flow"
"""Where a checkpoint (or the metadata of a safetensors file) keeps the arguments of `flows.build`."""

PRETRAINED = {path.stem: path for path in (Path(__file__).parents[2] / "pretrained").glob("*.safetensors")}
"""Flows that come with the project, by name."""

log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A file that holds no flow that can be loaded; the message says which file and what to do."""


@overload
def load_flow(path: str | Path) -> ImageFlow: ...


@overload
def load_flow(path: str | Path, *, with_provenance: Literal[True]) -> tuple[ImageFlow, Provenance | None]: ...


def load_flow(path: str | Path, *, with_provenance: bool = False) -> ImageFlow | tuple[ImageFlow, Provenance | None]:
    """Load a flow, on the CPU and in evaluation mode, from a run's `.ckpt` or from a `.safetensors` file.

    The name of a pretrained flow, such as "fashion_mnist", loads that one. A `.ckpt` gives the averaged weights where
    the run averaged them. Nothing in the file is executed. With `with_provenance` the flow comes with what the file
    tells of where it is from, None for a file that tells nothing.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    path = PRETRAINED.get(str(path), Path(path).expanduser())
    read = _read_safetensors if Path(path).suffix == ".safetensors" else _read_ckpt
    spec, weights, told = read(path)
    provenance = None if told is None else Provenance.from_dict(told)
    try:
        flow = build(**spec)
        flow.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} {_mismatch(spec, error, provenance)}") from error
    return (flow.eval(), provenance) if with_provenance else flow.eval()


def save_flow(flow: ImageFlow, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write the weights of a flow as safetensors, whole or not at all.

    Its spec, and where it comes from, are in the metadata as JSON.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in flow.state_dict().items()}
    metadata = {"format": "pt", SPEC_KEY: json.dumps(flow.spec)}
    if provenance is not None:
        metadata[PROVENANCE_KEY] = to_json(provenance.as_dict())
    partial = Path(f"{path}.partial")
    save_file(weights, partial, metadata=metadata)
    partial.replace(path)


def find_resume(run_dir: str | Path) -> Path | None:
    """Return the newest checkpoint of a run that loads, or None; those that do not are named in a warning."""
    return newest_checkpoint(checkpoints(run_dir))


def checkpoints(run_dir: str | Path) -> list[Path]:
    """Return the checkpoints of a run."""
    return sorted(Path(run_dir).glob("checkpoints/**/*.ckpt"))


def newest_checkpoint(paths: Iterable[Path], before_step: int | None = None) -> Path | None:
    """Return the one that has taken the most steps, of those that load; others are named in a warning.

    At the same step it is `last.ckpt`, as `best.ckpt` is stored within a validation. (The time of a file says nothing:
    copies are as old as the copying.)

    Args:
        paths: of checkpoints.
        before_step: if given, those that have taken as many steps, or cannot be read, are left out.
    """
    steps = {path: _step(path) for path in paths}
    for path in sorted(steps, key=lambda path: (steps[path], path.name == "last.ckpt"), reverse=True):
        if before_step is None or steps[path] < before_step:
            try:
                _read_ckpt(path)
            except CheckpointError as error:
                log.warning("Not resuming from %s", error)
            else:
                return path
    return None


def _step(path: Path) -> float:
    """Return the steps that a checkpoint has taken, infinity if it cannot be read, and should be told of first."""
    try:
        return peek(path)["global_step"]
    except (CheckpointError, KeyError, TypeError):
        return float("inf")


def peek(path: str | Path) -> dict[str, Any]:
    """Return all that is in a `.ckpt`, its tensors left on the disk until they are looked at.

    Raises:
        CheckpointError: if it cannot be read.
    """
    _check_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)}): take another one") from error


def checkpoint_to_resume(told: object) -> Path:
    """Return the checkpoint that `resume=` means: a `.ckpt` file, or the newest good one of a run's folder.

    Raises:
        CheckpointError: if there is none; the message says what to give.
    """
    advice = (
        "give resume=auto to go on in the run's own folder, the path of a .ckpt file or of a run's folder, or "
        "resume=null to start afresh"
    )
    if not isinstance(told, str) or not told:
        raise CheckpointError(f"resume={str(told).lower()} does not say from where: {advice}")
    path = Path(told).expanduser()
    if path.is_dir():
        newest = find_resume(path.parent if path.name == "checkpoints" else path)
        if newest is None:
            raise CheckpointError(f"{path} is a folder without a checkpoint that loads in it: {advice}")
        return newest
    if not path.exists() and told not in PRETRAINED:
        raise CheckpointError(f"{path} does not exist{_meant(path, 'auto')}: {advice}")
    return path if path.exists() else PRETRAINED[told]


def check_resume(path: str | Path, flow: ImageFlow) -> None:
    """Check that a run of `flow` can go on from a checkpoint.

    Raises:
        CheckpointError: if the file does not load, or holds weights only or another model; the message says what
            differs.
    """
    if Path(path).suffix == ".safetensors":
        raise CheckpointError(
            f"{path} holds weights only, to sample from and to evaluate, and no run can go on from them: give a .ckpt "
            "file of the run, from its folder checkpoints"
        )
    spec, _, _ = _read_ckpt(path)
    differences = [
        f"{key} is {spec.get(key)} there and {flow.spec.get(key)} here"
        for key in {**spec, **flow.spec}
        if spec.get(key) != flow.spec.get(key)
    ]
    if differences:
        raise CheckpointError(f"{path} holds another model, give the same settings to go on: {', '.join(differences)}")


Content = tuple[dict[str, Any], dict[str, Tensor], dict[str, Any] | None]
"""The arguments of `flows.build`, the weights, and where they come from."""


def _read_ckpt(path: str | Path) -> Content:
    _check_file(path)
    _check_sums(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({_first_line(error)}): take another one") from error
    except Exception as error:  # the unpickler meets bytes of any kind
        raise CheckpointError(
            f"{path} is no checkpoint of this project, or it holds objects that could run code, which are not loaded"
        ) from error
    try:
        prefix = "flow."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        return dict(checkpoint[SPEC_KEY]), weights, checkpoint.get(PROVENANCE_KEY)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} holds no flow: it is no checkpoint of this project") from error


def _check_sums(path: str | Path) -> None:
    """Raise CheckpointError if the bytes of a checkpoint are not those that were written; torch does not look."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            damaged = _first_line(error)
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged ({damaged} is not what was written): take another one")


def _read_safetensors(path: str | Path) -> Content:
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, weights = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged, or no safetensors file ({_first_line(error)}): take another one"
        ) from error
    if SPEC_KEY not in metadata:
        raise CheckpointError(
            f"{path} does not say in its metadata, under {SPEC_KEY!r}, how to build the model: it is no file of this "
            "project"
        )
    return _json_object(path, metadata, SPEC_KEY), weights, _json_object(path, metadata, PROVENANCE_KEY) or None


def _json_object(path: str | Path, metadata: dict[str, str], key: str) -> dict[str, Any]:
    """Return an object that the metadata of a file has under a key, an empty one where there is none."""
    try:
        return dict(json.loads(metadata.get(key, "{}")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} has a malformed {key!r} in its metadata ({_first_line(error)}): take another file"
        ) from error


def _mismatch(spec: dict[str, Any], error: Exception, provenance: Provenance | None) -> str:
    """Return what to do about a file that this program cannot make a flow of."""
    if isinstance(error, UnknownChoiceError) and error.name in spec.values():
        return (
            f"is a flow with the {error.option} {error.name!r}, which is not known here ({error}): if it is your own, "
            "or of scripts/peers, import the file that registers it, then call flows.training.load_flow in Python; "
            "else check out the version of this project that has it"
        )
    reason = " ".join(str(error).split("\n\t")[:2]).strip()
    if provenance is None:
        origin = ": check out the git_commit that summary.json of its run states"
    else:
        origin = f" ({provenance.origin}): check out that commit"
    return f"was written by another version of this project{origin} ({reason})"


def _meant(path: Path, *names: str) -> str:
    """Return a hint at what stands in the same folder, or at a name, which a path that does not exist may mean."""
    beside = [str(found) for found in path.parent.glob("[!.]*") if found.suffix in (".ckpt", ".safetensors", "")]
    cut_short = [found for found in beside if found.startswith(f"{path}.")]
    return f" (did you mean {cut_short[0]!r}?)" if cut_short else did_you_mean(str(path), [*names, *beside])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_file(path: str | Path) -> None:
    """Raise CheckpointError unless the path is that of a file with something in it."""
    path, names = Path(path), " or ".join(PRETRAINED)
    advice = f"give the path of a .ckpt or .safetensors file, as in outputs/RUN_ID, or the name {names}"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist{_meant(path, *PRETRAINED)}: {advice}")
    if path.is_dir():
        best = path / "best.safetensors"
        raise CheckpointError(f"{path} is a folder: {f'give {best}' if best.exists() else advice}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: writing it was interrupted, take another one")
