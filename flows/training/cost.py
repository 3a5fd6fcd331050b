"""What training a flow costs, counted on the meta device: operations, and memory."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from flows.image_flow import ImageFlow
from flows.training.optimizers.settings import try_out

BYTES = 4
"""Bytes of one float32."""


class Cost(NamedTuple):
    """The cost of training a model."""

    parameters: int
    gflop: float
    """GFLOP of the forward and the backward pass per image: the products in convolutions and matrices."""
    mebibytes: float
    """MiB per image of the activations that are kept for the backward pass, in float32."""

    def hours(self, num_images: int, tflops: float) -> float:
        """Return the hours for a number of images at a sustained speed of `tflops` TFLOP/s."""
        return self.gflop * 1e9 * num_images / (tflops * 1e12) / 3600


def estimate(flow: ImageFlow) -> Cost:
    """Count the cost of a flow on the meta device. Costs of a step that do not depend on the batch are left out."""
    flow.initialized = True  # for the counting
    few, many = 64, 128  # large enough that the batch needs more memory than the weights
    flops, kept = (b - a for a, b in zip(count(flow, few), count(flow, many), strict=True))
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    return Cost(parameters, flops / (many - few) / 1e9, kept / (many - few) / 2**20)


def count(flow: ImageFlow, batch_size: int) -> tuple[int, int]:
    """Return the floating-point operations of a training step, and the most bytes kept for its backward pass."""
    kept = KeptBytes()
    shape = (batch_size, *flow.image_shape)
    images = torch.zeros(shape, dtype=torch.uint8, device="meta")
    label = None if flow.num_classes is None else torch.zeros(batch_size, dtype=torch.long, device="meta")
    condition = None
    if flow.condition_shape is not None:
        condition = torch.zeros(batch_size, *flow.condition_shape, dtype=torch.uint8, device="meta")
    noise = torch.zeros(shape, device="meta")
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoTracker()
    with counter, torch.autograd.graph.saved_tensors_hooks(kept.keep, Kept.tensor):
        flow.log_prob(images, label, noise, condition).mean().backward()
    return counter.get_total_flops(), kept.most


class NoTracker(ModuleTracker):
    """A tracker that does not record modules, because memory-flat training runs modules within its backward pass."""

    def __enter__(self) -> "NoTracker":
        return self

    def __exit__(self, *args: object) -> None:
        pass


class KeptBytes:
    """Counts the bytes that autograd keeps now, and the most that it kept. Each storage is counted once.

    The most matters because memory-flat training keeps little at one time, but for many steps in turn.
    """

    def __init__(self) -> None:
        self.now = self.most = 0
        self.holders: Counter[int] = Counter()

    def keep(self, tensor: Tensor) -> "Kept":
        """Count a tensor until autograd drops it."""
        return Kept(self, tensor)


class Kept:
    """A tensor that autograd keeps."""

    def __init__(self, kept: KeptBytes, tensor: Tensor) -> None:
        self.kept = kept
        self._tensor = tensor
        storage = tensor.untyped_storage()
        self.storage, self.size = storage._cdata, storage.nbytes()
        kept.holders[self.storage] += 1
        if kept.holders[self.storage] == 1:
            kept.now += self.size
            kept.most = max(kept.most, kept.now)

    def tensor(self) -> Tensor:
        """Return the tensor."""
        return self._tensor

    def __del__(self) -> None:
        self.kept.holders[self.storage] -= 1
        if not self.kept.holders[self.storage]:
            self.kept.now -= self.size


def moments(make: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer], flow: nn.Module) -> int:
    """Return how many values an optimizer keeps for a flow. It is tried out on stand-in parameters of one value."""
    optimizer, stand_ins = try_out(make, flow.named_parameters())
    return sum(
        parameter.numel()
        for parameter, stand_in in zip(flow.parameters(), stand_ins, strict=True)
        for value in optimizer.state[stand_in].values()
        if isinstance(value, Tensor) and value.shape == stand_in.shape
    )
