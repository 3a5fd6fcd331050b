"""Samples of a flow, described by their features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flows.image_flow import ImageFlow
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


def in_levels_of(flow: ImageFlow, images: Tensor) -> Tensor:
    """Return uint8 images in the grey levels that samples of a flow have: without the low bits that the flow drops."""
    return flow.dequantize.inverse(flow.dequantize.place(images, torch.zeros((), device=images.device)))


def accuracy(described: Described, classifier: Classifier | None) -> float | None:
    """Return the part of images to which a classifier gives the class that they are meant to show.

    None if these classes are not known, or if there is no classifier of them (see `classifier_of`).
    """
    if described.labels is None or classifier is None:
        return None
    place = place_of(classifier)
    told = torch.cat([classifier.classify(some.to(place)).cpu() for some in described.features.split(1000)])
    return (told == described.labels).double().mean().item()


def place_of(classifier: Classifier) -> torch.device:
    """Return the device that a classifier is on."""
    tensors = [*classifier.parameters(), *classifier.buffers()] if isinstance(classifier, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")
