"""Estimate the cost of a training run from counted operations. Nothing is trained, so you can ask for any size.

Examples:
    python scripts/estimate.py experiment=glow_cifar10
    python scripts/estimate.py experiment=glow_imagenet64 trainer=ddp trainer.devices=8 tflops=50
    python scripts/estimate.py experiment=glow_lsun num_images=3033042 model.memory_flat=true
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from data.datamodule import held_out
from flows.image_flow import ImageFlow
from flows.training import check_config, command_line
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
        parameter.numel() * sum(key != "step" and isinstance(value, Tensor) for key, value in state.items())
        for parameter, state in ((p, optimizer.state[s]) for p, s in zip(flow.parameters(), stand_ins, strict=True))
    )


def num_devices(trainer: DictConfig) -> int:
    """Return how many devices train together; "auto" counts as one device per machine."""
    match trainer.devices:
        case ListConfig() as devices:
            each = len(devices)
        case int() | str() as devices:
            each = int(devices) if str(devices).isdigit() else 1
    return each * trainer.num_nodes


def images_an_epoch(cfg: DictConfig) -> int | None:
    """Return how many images are left for training, or None if this is not known before the data are loaded."""
    num_images = cfg.num_images or getattr(instantiate(cfg.data.source), "num_images", None)
    return None if num_images is None else num_images - held_out(num_images, cfg.data.num_val)


def limits(cfg: DictConfig, an_epoch: int | None, hours: Callable[[int], float]) -> dict[str, float]:
    """Return, for each limit of a run, its name and the hours after which it ends the run."""
    trainer, throughput = cfg.trainer, OmegaConf.select(cfg, "callbacks.throughput") or DictConfig({})
    found: dict[str, float] = {}
    if trainer.max_steps >= 0:
        images = trainer.max_steps * trainer.accumulate_grad_batches * cfg.data.batch_size
        found[f"trainer.max_steps={trainer.max_steps}"] = hours(images)
    if (trainer.max_epochs or -1) >= 0 and an_epoch is not None:
        found[f"trainer.max_epochs={trainer.max_epochs}"] = hours(trainer.max_epochs * an_epoch)
    if throughput.get("max_images"):
        found[f"callbacks.throughput.max_images={throughput.max_images}"] = hours(throughput.max_images)
    if throughput.get("max_seconds"):
        found[f"callbacks.throughput.max_seconds={throughput.max_seconds}"] = throughput.max_seconds / 3600
    if isinstance(trainer.max_time, str):
        days, its_hours, minutes, seconds = map(int, trainer.max_time.split(":"))
        found[f"trainer.max_time={trainer.max_time}"] = 24 * days + its_hours + minutes / 60 + seconds / 3600
    return found


@command_line("../conf", "estimate")
def main(cfg: DictConfig) -> None:
    """Print the estimate."""
    check_config(cfg)
    with torch.device("meta"):
        flow = instantiate(cfg.model)
    cost, devices, an_epoch = estimate(flow), num_devices(cfg.trainer), images_an_epoch(cfg)
    an_average = cost.parameters if (cfg.get("callbacks") or {}).get("ema") else 0
    parts: dict[str, Any] = {
        "weights": cost.parameters * BYTES / 2**30,
        "gradients": cost.parameters * BYTES / 2**30,
        "optimizer": moments(instantiate(cfg.optimizer), flow) * BYTES / 2**30,
        "average": an_average * BYTES / 2**30,
        "activations": cost.mebibytes * cfg.data.batch_size / devices / 1024,
    }

    def hours(num_images: int) -> float:
        return cost.hours(num_images, cfg.tflops * devices)

    print(f"parameters                   {cost.parameters:,}")
    print(f"GFLOP per image, training    {cost.gflop:.2f}")
    print(f"MiB of activations per image {cost.mebibytes:.1f}")
    print(f"GiB on each device           {sum(parts.values()):.3g} ", end="")
    print(f"({', '.join(f'{name} {gib:.2g}' for name, gib in parts.items())};")
    several = "s" * (devices > 1)
    print(f"{' ' * 29}data.batch_size={cfg.data.batch_size} on {devices} device{several}; work space comes on top)")
    if an_epoch is None:
        print("hours per epoch              unknown: give num_images=N, the training images of this data set")
    else:
        print(f"hours per epoch              {hours(an_epoch):.2f} ({an_epoch:,} images, without those for validation)")
    ends = limits(cfg, an_epoch, hours)
    if ends:
        first = min(ends, key=lambda name: ends[name])
        print(f"hours of the whole run       {ends[first]:.2f} by {first}")
    else:
        print("hours of the whole run       unknown: no limit in trainer.* or callbacks.throughput.*")
    print(f"Hours are those at a sustained {cfg.tflops:g} TFLOP/s of each device, which is an assumption.")


if __name__ == "__main__":
    main()
