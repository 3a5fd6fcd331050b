"""Samples of a flow, described by their features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flows.sampler import Sampler
from flows.training.knobs import Knobs
from flows.training.machine.sharing import Share
from flows.training.quality.features import Classifier, Features, described_by

UNEQUAL = 0.2
"""If a class is more or less frequent than the mean class by more than this part, classes count as unequal."""

GOLDEN = (5**0.5 - 1) / 2
"""The multiples of this number spread evenly between whole numbers, however many there are."""


class Described(NamedTuple):
    """Images, described by their features."""

    features: Tensor
    """`(N, F)`."""
    labels: Tensor | None
    """int64 `(N,)`, the classes that the images are meant to show; None if the classes are not known."""


def described_samples(
    sampler: Sampler,
    features: Features,
    seeds: range,
    batch_size: int,
    *,
    knobs: Knobs,
    frequencies: Tensor | None = None,
    share: Share | None = None,
) -> Described:
    """Draw the samples of some seeds as `drawn` does, and describe them on the CPU.

    Args:
        sampler: of the flow.
        features: on the device of the flow.
        seeds: one per sample.
        batch_size: samples drawn at once.
        knobs: how the samples are drawn.
        frequencies: of the classes, as for `classes_of`.
        share: the part of this process, if several processes share the work.
    """
    share = share or Share()
    parts = []
    for some in share.of(in_batches(seeds, batch_size)):
        images, labels = drawn(sampler, some, knobs, frequencies)
        parts.append(Described(described_by(features, images), labels))
    return joined(share.gathered(parts))


def drawn(
    sampler: Sampler, seeds: range, knobs: Knobs, frequencies: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Draw one batch, a sample for each seed, and return it with its classes, those of `classes_of`."""
    flow = sampler.flow
    labels = None if flow.num_classes is None else classes_of(seeds, flow.num_classes, frequencies)
    told = None if labels is None else labels.to(next(flow.parameters()).device)
    return sampler.sample(seeds, label=told, **knobs._asdict()), labels


def class_frequencies(labels: Tensor, num_classes: int | None) -> Tensor | None:
    """Return how frequent each class is among the labels of images, `(num_classes,)`; None if all are about equal."""
    if num_classes is None:
        return None
    counts = torch.bincount(labels[labels >= 0], minlength=num_classes).double()
    frequencies = counts / counts.sum()
    return frequencies if bool(((frequencies * num_classes - 1).abs() > UNEQUAL).any()) else None


def classes_of(seeds: range, num_classes: int, frequencies: Tensor | None = None) -> Tensor:
    """Return the class of the sample of each seed, int64 `(N,)`: as often as told, or in turn if `frequencies` is None.

    The class depends on the seed alone, whatever the batch.
    """
    numbers = torch.tensor(seeds)
    if frequencies is None:
        return numbers % num_classes
    return torch.searchsorted(frequencies.cumsum(0), (numbers.double() + 0.5) * GOLDEN % 1).clamp(max=num_classes - 1)


def in_batches(seeds: range, batch_size: int) -> list[range]:
    """Return seeds in batches; the last one may be smaller."""
    return [seeds[start : start + batch_size] for start in range(0, len(seeds), batch_size)]


def joined(parts: Iterable[Described]) -> Described:
    """Join sets of images into one set."""
    features, labels = zip(*parts, strict=True)
    return Described(torch.cat(features), None if labels[0] is None else torch.cat(labels))


def accuracy(described: Described, classifier: Classifier | None) -> dict[str, float | None]:
    """Return the part of images to which a classifier gives the class that they are meant to show.

    Both values are None if these classes are not known, or if there is no classifier of them (see `classifier_of`).

    Returns:
        `accuracy`, of all images, and `worst_class`, of the images of the class for which it is least.
    """
    labels = described.labels
    if labels is None or classifier is None:
        return {"accuracy": None, "worst_class": None}
    place = place_of(classifier)
    told = torch.cat([classifier.classify(some.to(place)).cpu() for some in described.features.split(1000)])
    right = (told == labels).double()
    of_classes = [right[labels == one].mean().item() for one in labels.unique()]
    return {"accuracy": right.mean().item(), "worst_class": min(of_classes)}


def place_of(classifier: Classifier) -> torch.device:
    """Return the device that a classifier is on."""
    tensors = [*classifier.parameters(), *classifier.buffers()] if isinstance(classifier, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")
