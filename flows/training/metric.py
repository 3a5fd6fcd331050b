"""Averages over a set of images that count every image once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Average(NamedTuple):
    """A mean over images with its standard error, sd / sqrt(n); a single image has no standard error."""

    mean: float
    standard_error: float | None
    num_images: int


class ImageAverage(Metric):
    """Average a value over images, for any batches and ranks; images that a sampler repeats as padding count once."""

    full_state_update = False
    values: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("index", default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor, index: Tensor) -> None:
        """Add `values` `(B,)` of the images at rows `index` `(B,)` of their set."""
        self.values.append(values.detach())
        self.index.append(index)

    def compute(self) -> Average:
        """Return the average over all distinct images so far, in float64."""
        values, index = dim_zero_cat(self.values), dim_zero_cat(self.index)
        order = index.argsort(stable=True)
        first = torch.diff(index[order], prepend=index.new_tensor([-1])) != 0
        values = values[order][first].double()
        standard_error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
        return Average(values.mean().item(), standard_error, len(values))
