"""What a training costs, estimated from counted operations: nothing is run, so that any size can be asked for.

Examples:
    python scripts/estimate.py experiment=glow_cifar10
    python scripts/estimate.py experiment=glow_imagenet64 num_images=1281167 tflops=50
"""

from typing import NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from flows.image_flow import ImageFlow
from flows.training import check_config, command_line


class Cost(NamedTuple):
    """What a model costs in training."""

    parameters: int
    gflop: float
    """Of the forward and the backward pass for an image: products in convolutions and matrices."""
    mebibytes: float
    """Of activations kept for the backward pass of an image, in float32."""

    def hours(self, num_images: int, tflops: float) -> float:
        """Return the time for a number of images at so many sustained TFLOP/s."""
        return self.gflop * 1e9 * num_images / (tflops * 1e12) / 3600


def estimate(flow: ImageFlow) -> Cost:
    """Count for a flow on the meta device; what a step costs whatever the batch is left out."""
    (one, kept_by_one), (two, kept_by_two) = (count(flow, batch_size) for batch_size in (1, 2))
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    return Cost(parameters, (two - one) / 1e9, (kept_by_two - kept_by_one) / 2**20)


def count(flow: ImageFlow, batch_size: int) -> tuple[int, int]:
    """Return the floating-point operations of a training step, and the bytes kept for its backward pass."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    shape = (batch_size, *flow.image_shape)
    images = torch.zeros(shape, dtype=torch.uint8, device="meta")
    label = None if flow.num_classes is None else torch.zeros(batch_size, dtype=torch.long, device="meta")
    noise = torch.zeros(shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        flow.log_prob(images, label, noise).mean().backward()
    return counter.get_total_flops(), sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@command_line("../conf", "estimate")
def main(cfg: DictConfig) -> None:
    """Print the estimate."""
    check_config(cfg)
    with torch.device("meta"):
        flow = instantiate(cfg.model)
    cost = estimate(flow)
    print(f"parameters                   {cost.parameters:,}")
    print(f"GFLOP an image, training     {cost.gflop:.2f}")
    print(f"MiB of activations an image  {cost.mebibytes:.1f}")
    print(f"GiB of activations a batch   {cost.mebibytes * cfg.data.batch_size / 1024:.1f} (of {cfg.data.batch_size})")
    print(f"hours an epoch, estimated    {cost.hours(cfg.num_images, cfg.tflops):.2f} ", end="")
    print(f"({cfg.num_images:,} images at a sustained {cfg.tflops:g} TFLOP/s, which is an assumption)")


if __name__ == "__main__":
    main()
