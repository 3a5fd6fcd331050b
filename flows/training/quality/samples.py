"""Samples of a flow, described by their features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flows.sampler import Sampler
from flows.training.knobs import Knobs
from flows.training.machine.sharing import Share
from flows.training.quality.features import Classifier, Features


class Described(NamedTuple):
    """Images, described by their features."""

    features: Tensor
    """`(N, F)`."""
    labels: Tensor | None
    """int64 `(N,)`, the classes that the images are meant to show; None if the classes are not known."""
    images: Tensor
    """The first few of the images, uint8 `(n, C, H, W)`."""


def described_samples(
    sampler: Sampler,
    features: Features,
    seeds: range,
    batch_size: int,
    *,
    knobs: Knobs,
    num_shown: int = 0,
    share: Share | None = None,
) -> Described:
    """Draw the samples of some seeds, and describe them on the CPU; a flow with classes draws its classes in turn.

    Args:
        sampler: of the flow.
        features: on the device of the flow.
        seeds: one per sample.
        batch_size: samples drawn at once.
        knobs: how the samples are drawn.
        num_shown: how many images to keep.
        share: the part of this process, if several processes share the work.
    """
    share = share or Share()
    flow = sampler.flow
    device = next(flow.parameters()).device
    parts = []
    for some in share.of([seeds[start : start + batch_size] for start in range(0, len(seeds), batch_size)]):
        labels = None if flow.num_classes is None else torch.tensor(some) % flow.num_classes
        images = sampler.sample(some, label=None if labels is None else labels.to(device), **knobs._asdict())
        kept = images[: max(0, num_shown - (some.start - seeds.start))]
        parts.append(Described(features(images).cpu(), labels, kept.cpu().clone()))
    return joined(share.gathered(parts))


def joined(parts: Iterable[Described]) -> Described:
    """Join sets of images into one set."""
    features, labels, images = zip(*parts, strict=True)
    return Described(torch.cat(features), None if labels[0] is None else torch.cat(labels), torch.cat(images))


def accuracy(described: Described, features: Features) -> float | None:
    """Return the part of images whose features give the class that the images are meant to show.

    None if the classes are not known, or if the features have no classes or different ones.
    """
    labels = described.labels
    if (
        labels is None
        or not isinstance(features, Classifier)
        or not 0 <= labels.min() <= labels.max() < features.num_classes
    ):
        return None
    told = torch.cat([features.classify(some.to(place_of(features))).cpu() for some in described.features.split(1000)])
    return (told == labels).double().mean().item()


def place_of(features: object) -> torch.device:
    """Return the device that features are on."""
    tensors = [*features.parameters(), *features.buffers()] if isinstance(features, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")
