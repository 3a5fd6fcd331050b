"""The value by which sweeps compare runs: the smaller, the better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flows.arguments import choose
from flows.training.quality.features import classifier_of

if TYPE_CHECKING:
    from data import ImageData
    from flows.training.callbacks.quality import Quality

OBJECTIVES = {
    "bits_per_dim": "val_bits_per_dim",
    "fd": "val_fd",
    "kid": "val_kid",
    "classification_error": "val_accuracy",
}
"""The fact of a summary that each objective is made from."""


def check_objective(name: str, quality: Quality | None, num_classes: int | None, data: ImageData | None = None) -> None:
    """Check that a run will measure the value by which it is compared.

    Args:
        name: of the objective.
        quality: the callback that measures samples, if there is one.
        num_classes: of the flow, None without labels.
        data: of the run, once they are set up.

    Raises:
        ValueError: if there is no such objective, or if the run does not measure it.
    """
    choose("objective", OBJECTIVES, name)
    if name != "bits_per_dim" and quality is None:
        raise ValueError(f"objective={name} compares samples, which this run does not measure: add callbacks=quality")
    if name == "classification_error":
        if num_classes is None:
            raise ValueError(
                "objective=classification_error needs a flow that draws classes: set model.num_classes to "
                "'${data.num_classes}', or take objective=fd"
            )
        known = getattr(quality and quality.features, "num_classes", None)
        if known != num_classes:
            raise ValueError(
                f"objective=classification_error needs features that tell the {num_classes} classes of the flow, and "
                f"callbacks.quality.features know {known or 'none'}: take other features, or objective=fd"
            )
        if quality is not None and data is not None and classifier_of(quality.features, data) is None:
            raise ValueError(
                "objective=classification_error needs features that tell the classes of the data, and "
                "callbacks.quality.features tell others: take other features, or objective=fd"
            )


def objective(name: str, facts: Mapping[str, Any]) -> float:
    """Return the value by which a run is compared; infinity if it is not finite.

    Raises:
        ValueError: if the run has already ended and did not measure this value.
    """
    key = OBJECTIVES[name]
    if key not in facts:
        raise ValueError(f"objective={name} was not measured when this run ended: give another run_id to measure it")
    value = facts[key]
    if value is None or not math.isfinite(value):
        return math.inf
    return 1 - value if name == "classification_error" else value
