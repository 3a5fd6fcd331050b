"""Batches for a flow that may be conditional: what the flow gets from a batch, and whether the data have it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from flows.image_flow import ImageFlow
from flows.likelihood import draw_log_probs
from flows.provenance import Provenance, check_class_names

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import Batch, ImageData


class Given(TypedDict, total=False):
    """Named arguments of the methods of a conditional flow."""

    label: Tensor
    condition: Tensor


def given(flow: ImageFlow, batch: Batch) -> Given:
    """Return label and condition of a batch, if the flow reads them."""
    label: Given = {} if flow.num_classes is None else {"label": batch.labels}
    return label if batch.condition is None else {**label, "condition": batch.condition}


def given_log_probs(flow: ImageFlow, batch: Batch, num_draws: int, seed: int) -> Tensor:
    """Return `draw_log_probs`, `(num_draws, B)` in nats, for a batch, with its label and condition if they are read."""
    known = given(flow, batch)
    label, condition = known.get("label"), known.get("condition")
    return draw_log_probs(flow, batch.images, label, batch.index, num_draws=num_draws, seed=seed, condition=condition)


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Go through batches, and move each batch to a device."""
    for batch in batches:
        moved = {name: part.to(device) for name, part in batch._asdict().items() if part is not None}
        yield batch._replace(**moved)


def check_fits(name: str, flow: ImageFlow, data: ImageData) -> None:
    """Check that a flow is a model of images as those of the data, and of as many classes if it has any.

    Raises:
        ValueError: if not; the message calls the flow by its name, and says what to set.
    """
    if flow.image_shape != data.image_shape:
        raise ValueError(
            f"{name} is a model of {flow.image_shape} images (C, H, W), but those of data.source have the shape "
            f"{data.image_shape}: give the data it was trained on by data=NAME, or a folder of images by "
            f"data=image_folder and data.image_shape={str(list(flow.image_shape)).replace(' ', '')}"
        )
    check_classes(name, flow, data)


def check_classes(name: str, flow: ImageFlow, data: ImageData) -> None:
    """Check that the data have as many classes as a flow, if the flow has any.

    Raises:
        ValueError: if not; the message calls the flow by its name, and says what to set.
    """
    if flow.num_classes not in (None, data.num_classes):
        raise ValueError(
            f"{name} is a model of {flow.num_classes} classes, but data.num_classes is {data.num_classes}: give "
            "labelled data of as many classes by data=NAME"
        )


def check_labels(flow: ImageFlow, provenance: Provenance | None, data: ImageData) -> None:
    """Check that the labels of the data mean what they meant when the flow was trained, if that is known.

    Args:
        flow: without classes, it reads no labels, and nothing is checked.
        provenance: of the flow.
        data: after its `setup`.

    Raises:
        ValueError: if the classes have other names.
    """
    if flow.num_classes is not None and provenance is not None:
        check_class_names(provenance.class_names, data.class_names)


def check_conditions(flow: ImageFlow, condition_shape: Sequence[int] | None) -> None:
    """Check that data make the conditions that a flow reads.

    Args:
        flow: the model.
        condition_shape: (C, H, W) of the data's conditions, None if they make none.

    Raises:
        ValueError: if not; the message says what to set.
    """
    wanted, made = flow.condition_shape, condition_shape and tuple(condition_shape)
    if wanted == made:
        return
    if made is None:
        raise ValueError(
            f"the model is conditioned on images of {wanted} (C, H, W), but data.condition is null: set it to what "
            "makes these, such as 'data.condition={_target_: data.Downsample, factor: 4}'"
        )
    raise ValueError(
        f"model.condition_shape is {wanted and list(wanted)}, but data.condition makes images of {made} (C, H, W): set "
        f"model.condition_shape={str(list(made)).replace(' ', '')} of a Glow or RealNVP, or another data.condition"
    )
