"""Files that hold a trained flow: `.safetensors` files are for sharing, `.ckpt` files belong to a run."""

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
from flows.whole_file import whole_file

SPEC_KEY = "flow"
"""Where a checkpoint (or the metadata of a safetensors file) keeps the arguments of `flows.build`."""

PRETRAINED = {path.stem: path for path in sorted((Path(__file__).parent / "pretrained").glob("*.safetensors"))}
"""Flows that come with the project, by name."""


class CheckpointError(Exception):
    """A file that holds no flow that can be loaded; the message says which file and what to do."""


@overload
def load(path: str | Path) -> ImageFlow: ...


@overload
def load(path: str | Path, *, with_provenance: Literal[True]) -> tuple[ImageFlow, Provenance | None]: ...


def load(path: str | Path, *, with_provenance: bool = False) -> ImageFlow | tuple[ImageFlow, Provenance | None]:
    """Load a flow, on the CPU and in evaluation mode, from a run's `.ckpt` or from a `.safetensors` file.

    The name of a pretrained flow, such as "fashion_mnist", loads that flow. If the run averaged its weights, a `.ckpt`
    gives the averaged weights. Nothing in the file is executed. With `with_provenance`, also return what the file says
    about where the flow comes from; None if the file says nothing.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    path = PRETRAINED.get(str(path), Path(path).expanduser())
    read = _read_safetensors if Path(path).suffix == ".safetensors" else read_ckpt
    spec, weights, told = read(path)
    provenance = None if told is None else Provenance.from_dict(told)
    try:
        flow = build(**spec).to(dtype_of(weights))
        flow.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} {_mismatch(spec, error, provenance)}") from error
    return (flow.eval(), provenance) if with_provenance else flow.eval()


def save(flow: ImageFlow, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write the weights of a flow as safetensors, either the complete file or none.

    The flow's spec, and where the flow comes from, are in the metadata as JSON.

    Raises:
        ValueError: if the name of the file does not end in .safetensors, or if `build` did not make the flow.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} would be no file that load reads: give it a name that ends in .safetensors")
    flow = getattr(flow, "_orig_mod", flow)  # what torch.compile wraps
    if getattr(flow, "spec", None) is None:
        raise ValueError("a file says how to build its flow: make the flow by flows.build, so that this is known")
    weights = {name: tensor.detach().cpu() for name, tensor in flow.state_dict().items()}
    # Each one a copy: a layer may be in several places of a flow, and safetensors refuses weights that share memory.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    metadata = {"format": "pt", SPEC_KEY: json.dumps(flow.spec)}
    if provenance is not None:
        metadata[PROVENANCE_KEY] = to_json(provenance.as_dict())
    with whole_file(path) as partial:
        save_file(weights, partial, metadata=metadata)


def dtype_of(weights: dict[str, Tensor]) -> torch.dtype:
    """Return the precision of a flow with these weights: float64 if they are, else float32."""
    is_double = all(tensor.dtype == torch.float64 for tensor in weights.values() if tensor.is_floating_point())
    return torch.float64 if is_double and weights else torch.float32


def peek(path: str | Path) -> dict[str, Any]:
    """Return everything in a `.ckpt`; its tensors stay on the disk until they are used.

    Raises:
        CheckpointError: if it cannot be read.
    """
    _check_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)}): take another one") from error


Content = tuple[dict[str, Any], dict[str, Tensor], dict[str, Any] | None]
"""The arguments of `flows.build`, the weights, and where the flow comes from."""


def read_ckpt(path: str | Path) -> Content:
    """Return the content of a `.ckpt`, after reading all of it and comparing its checksums.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
    """
    _check_file(path)
    _check_sums(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({first_line(error)}): take another one") from error
    except Exception as error:  # damaged bytes can raise any error in the unpickler
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
    """Raise CheckpointError if the bytes of a checkpoint differ from what was written; torch does not check this."""
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
    """Return the object that the metadata of a file has under a key; an empty one if there is none."""
    try:
        return dict(json.loads(metadata.get(key, "{}")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} has a malformed {key!r} in its metadata ({first_line(error)}): take another file"
        ) from error


def _mismatch(spec: dict[str, Any], error: Exception, provenance: Provenance | None) -> str:
    """Return what to do about a file from which this program cannot build a flow."""
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
    """Return a hint for a path that does not exist: a file in the same folder, or a name, that may be meant."""
    beside = [str(found) for found in path.parent.glob("[!.]*") if found.suffix in (".ckpt", ".safetensors", "")]
    cut_short = [found for found in beside if found.startswith(f"{path}.")]
    return f" (did you mean {cut_short[0]!r}?)" if cut_short else did_you_mean(str(path), [*names, *beside])


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_file(path: str | Path) -> None:
    """Raise CheckpointError unless the path is a file that is not empty."""
    path, names = Path(path), " or ".join(PRETRAINED)
    advice = f"give the path of a .ckpt or .safetensors file, as in outputs/RUN_ID, or the name {names}"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist{meant(path, *PRETRAINED)}: {advice}")
    if path.is_dir():
        best = path / "best.safetensors"
        raise CheckpointError(f"{path} is a folder: {f'give {best}' if best.exists() else advice}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: writing it was interrupted, take another one")
