"""Averages over a set of images that count every image once."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Average:
    """A mean over distinct images.

    (No tuple: torchmetrics would take the dimension away from the values of a single image.)

    Args:
        values: float64 `(N,)`, one value per image.
        index: int64 `(N,)`, the row of each image in its set, in rising order.
    """

    def __init__(self, values: Tensor, index: Tensor) -> None:
        self.values = values
        self.index = index

    @property
    def mean(self) -> float:
        """The mean over the images."""
        return self.values.mean().item()

    @property
    def standard_error(self) -> float | None:
        """sd / sqrt(n); a single image has no standard error."""
        return (self.values.std() / len(self.values) ** 0.5).item() if len(self.values) > 1 else None

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.values)


class PerImage(Metric):
    """Collect a value of each image, for any batches and ranks; images that a sampler repeats as padding count once."""

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

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the values `(N,)` of all distinct images so far, and their rows `(N,)` in rising order.

        (For a single image torchmetrics returns numbers, without a dimension.)
        """
        values, index = dim_zero_cat(self.values), dim_zero_cat(self.index)
        order = index.argsort(stable=True)
        first = torch.diff(index[order], prepend=index.new_tensor([-1])) != 0
        return values[order][first], index[order][first]


class ImageAverage(PerImage):
    """Average a value over images; each counts once."""

    def compute(self) -> Average:  # type: ignore[override]
        """Return the average over all distinct images so far, in float64."""
        values, index = super().compute()
        return Average(values.double(), index)
