"""Files that hold a trained flow: `.safetensors` files are for sharing, `.ckpt` files are those of a run."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, overload

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from flows.arguments import UnknownChoiceError, did_you_mean
from flows.image_flow import ImageFlow
from flows.models.registry import build
from flows.provenance import PROVENANCE_KEY, Provenance
from flows.valid_json import to_json

SPEC_KEY = "flow"
"""Where a checkpoint (or the metadata of a safetensors file) keeps the arguments of `flows.build`."""

PRETRAINED = {path.stem: path for path in (Path(__file__).parent / "pretrained").glob("*.safetensors")}
"""Flows that come with the project, by name."""


class CheckpointError(Exception):
    """A file that holds no flow that can be loaded; the message says which file and what to do."""


@overload
def load(path: str | Path) -> ImageFlow: ...


@overload
def load(path: str | Path, *, with_provenance: Literal[True]) -> tuple[ImageFlow, Provenance | None]: ...


def load(path: str | Path, *, with_provenance: bool = False) -> ImageFlow | tuple[ImageFlow, Provenance | None]:
    """Load a flow, on the CPU and in evaluation mode, from a run's `.ckpt` or from a `.safetensors` file.

    The name of a pretrained flow, such as "fashion_mnist", loads that one. A `.ckpt` gives the averaged weights where
    the run averaged them. Nothing in the file is executed. With `with_provenance` the flow comes with what the file
    tells of where it is from, None for a file that tells nothing.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    path = PRETRAINED.get(str(path), Path(path).expanduser())
    read = _read_safetensors if Path(path).suffix == ".safetensors" else read_ckpt
    spec, weights, told = read(path)
    provenance = None if told is None else Provenance.from_dict(told)
    try:
        flow = build(**spec)
        flow.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} {_mismatch(spec, error, provenance)}") from error
    return (flow.eval(), provenance) if with_provenance else flow.eval()


def save(flow: ImageFlow, path: str | Path, provenance: Provenance | None = None) -> None:
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


def peek(path: str | Path) -> dict[str, Any]:
    """Return all that is in a `.ckpt`, its tensors left on the disk until they are looked at.

    Raises:
        CheckpointError: if it cannot be read.
    """
    _check_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)}): take another one") from error


Content = tuple[dict[str, Any], dict[str, Tensor], dict[str, Any] | None]
"""The arguments of `flows.build`, the weights, and where they come from."""


def read_ckpt(path: str | Path) -> Content:
    """Return what a `.ckpt` holds, all of it read and its checksums compared.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    _check_file(path)
    _check_sums(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({first_line(error)}): take another one") from error
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
            damaged = first_line(error)
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged ({damaged} is not what was written): take another one")


def _read_safetensors(path: str | Path) -> Content:
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, weights = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged, or no safetensors file ({first_line(error)}): take another one"
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
            f"{path} has a malformed {key!r} in its metadata ({first_line(error)}): take another file"
        ) from error


def _mismatch(spec: dict[str, Any], error: Exception, provenance: Provenance | None) -> str:
    """Return what to do about a file that this program cannot make a flow of."""
    if isinstance(error, UnknownChoiceError) and error.name in spec.values():
        return (
            f"is a flow with the {error.option} {error.name!r}, which is not known here ({error}): if it is your own, "
            "or of scripts/peers, import the file that registers it ('imports=[FILE.py]' on the command line, import "
            "in Python); else check out the version of this project that has it"
        )
    reason = " ".join(str(error).split("\n\t")[:2]).strip()
    if provenance is None:
        origin = ": check out the git_commit that summary.json of its run states"
    else:
        origin = f" ({provenance.origin}): check out that commit"
    return f"was written by another version of this project{origin} ({reason})"


def meant(path: Path, *names: str) -> str:
    """Return a hint at what stands in the same folder, or at a name, which a path that does not exist may mean."""
    beside = [str(found) for found in path.parent.glob("[!.]*") if found.suffix in (".ckpt", ".safetensors", "")]
    cut_short = [found for found in beside if found.startswith(f"{path}.")]
    return f" (did you mean {cut_short[0]!r}?)" if cut_short else did_you_mean(str(path), [*names, *beside])


def first_line(error: BaseException) -> str:
    """Return the first line of an error, its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_file(path: str | Path) -> None:
    """Raise CheckpointError unless the path is that of a file with something in it."""
    path, names = Path(path), " or ".join(PRETRAINED)
    advice = f"give the path of a .ckpt or .safetensors file, as in outputs/RUN_ID, or the name {names}"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist{meant(path, *PRETRAINED)}: {advice}")
    if path.is_dir():
        best = path / "best.safetensors"
        raise CheckpointError(f"{path} is a folder: {f'give {best}' if best.exists() else advice}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: writing it was interrupted, take another one")
