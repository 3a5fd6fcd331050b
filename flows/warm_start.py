"""Start from the weights of another flow: what fits is taken, the rest stays new."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from flows.files import load
from flows.image_flow import ImageFlow

NUM_NAMED = 5
"""How many names of weights a message lists."""


@dataclass(frozen=True)
class WarmStart:
    """What a flow took from another one."""

    source: str
    """The file, or the name of a pretrained flow."""
    taken: list[str]
    """Names of weights that were taken."""
    left: list[str]
    """Names of weights of the other flow that were not taken."""
    new: list[str]
    """Names of weights that stay as they were."""

    def __str__(self) -> str:
        said = [f"{len(self.taken)} weights taken from {self.source}"]
        for what, names in (("left there", self.left), ("new", self.new)):
            if names:
                said.append(f"{len(names)} {what}: {listed(names)}")
        return "; ".join(said)


def warm_start(flow: ImageFlow, source: str | Path, *, strict: bool = True, skip: Sequence[str] = ()) -> WarmStart:
    """Give a flow the weights of another one, by their names.

    Parts that got no weights are still to be initialised, by `flows.initialize(flow, images, parts=...)` with what
    `new_parts` returns.

    Args:
        flow: gets the weights.
        source: a `.safetensors` or `.ckpt` file, or the name of a pretrained flow.
        strict: whether the two flows must have the same weights, in name and shape, except for those skipped.
        skip: patterns of names, such as "multiscale.top.*": weights that are not taken.

    Raises:
        CheckpointError: if the file is missing, damaged or holds no flow.
        ValueError: if the flows have different weights and `strict` is set, if a pattern fits no weight of the two, or
            if no weight fits.
    """
    if isinstance(skip, str) or not isinstance(skip, Sequence):
        raise ValueError(f"skip (init_skip) is a list of patterns, as in [multiscale.top.*], got {skip!r}")
    other = load(source).state_dict()
    mine = flow.state_dict()
    of_both = [*{**mine, **other}]
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in of_both):
            raise ValueError(
                f"no weight of the model or of {source} has a name like {pattern}: those of the model are "
                f"{listed([*mine])}"
            )
    skipped = {name for name in of_both if any(fnmatchcase(name, pattern) for pattern in skip)}
    fits = {name for name, value in mine.items() if name in other and other[name].shape == value.shape}
    taken = [name for name in mine if name in fits and name not in skipped]
    new = [name for name in mine if name not in taken]
    left = [name for name in other if name not in taken]
    if strict and (misfits := [name for name in of_both if name not in fits and name not in skipped]):
        raise ValueError(
            f"{source} has other weights than the model, {listed([described(name, mine, other) for name in misfits])}: "
            "give the settings of its model, or take only what fits by init_strict=false"
        )
    if not taken:
        raise ValueError(f"no weight of {source} is taken: none fits the model, or all are skipped")
    with torch.no_grad():
        for name in taken:
            mine[name].copy_(other[name])
    if not new:
        flow.initialized = True
    return WarmStart(str(source), taken, left, new)


def new_parts(flow: ImageFlow, found: WarmStart) -> list[nn.Module]:
    """Return the parts of a flow that have weights which were not taken, for `flows.initialize`."""
    return [part for name, part in flow.named_modules() if any(new.startswith(f"{name}.") for new in found.new)]


def described(name: str, mine: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> str:
    """Return how a weight differs between the model and the file."""
    shapes = [tuple(weights[name].shape) if name in weights else "missing" for weights in (other, mine)]
    return f"{name} ({shapes[0]} there, {shapes[1]} here)"


def listed(names: Sequence[str]) -> str:
    """Return the first few names."""
    more = len(names) - NUM_NAMED
    return ", ".join(names[:NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
