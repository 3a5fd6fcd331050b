"""What a run would take: memory on each device, hours and communication, from counted operations and parameters."""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from flows.training.communication import bytes_sent, exchange_seconds, waiting
from flows.training.cost import BYTES, Cost, estimate, moments
from flows.training.machine.device import memory_gib
from flows.training.machine.slurm import is_slurm_task

PART_OF_MEMORY = 0.75
"""So much of a machine's memory a run may take before its work space."""


class Forecast(NamedTuple):
    """What a run would take.

    Args:
        cost: of training the model.
        devices: number of devices that train together.
        gib: GiB on each device, by what they are for.
        batch_size: images of a batch, on all devices together.
        num_batches: whose gradients make one step.
        an_epoch: number of training images; None if it is not known.
        ends: for each limit of the run, its name and the hours after which it ends the run.
        tflops: TFLOP/s that each device sustains, an assumption.
        network_gb: GB/s at which the devices exchange gradients, an assumption.
    """

    cost: Cost
    devices: int
    gib: dict[str, float]
    batch_size: int
    num_batches: int
    an_epoch: int | None
    ends: dict[str, float]
    tflops: float
    network_gb: float

    @property
    def gib_in_all(self) -> float:
        """GiB on each device; work space comes on top."""
        return sum(self.gib.values())

    @property
    def waiting(self) -> tuple[float, float]:
        """Which part of a step, 0 to 1, is waiting for gradients, at least and at most."""
        compute = self.cost.hours(self.num_batches * self.batch_size, self.tflops * self.devices) * 3600
        exchange = exchange_seconds(self.cost.parameters, self.devices, self.network_gb)
        return waiting(compute, exchange, self.num_batches)

    def lines(self) -> Iterator[str]:
        """Go through the lines of a report."""
        yield f"parameters                   {self.cost.parameters:,}"
        yield f"GFLOP per image, training    {self.cost.gflop:.2f}"
        yield f"MiB of activations per image {self.cost.mebibytes:.1f}"
        parts = ", ".join(f"{name} {gib:.2g}" for name, gib in self.gib.items())
        yield f"GiB on each device           {self.gib_in_all:.3g} ({parts};"
        several = "s" * (self.devices > 1)
        on = f"data.batch_size={self.batch_size} on {self.devices} device{several}"
        yield f"{' ' * 29}{on}; work space comes on top)"
        if self.an_epoch is None:
            yield "hours per epoch              unknown: give num_images=N, the training images of this data set"
        else:
            hours = self.cost.hours(self.an_epoch, self.tflops * self.devices)
            told = f"({self.an_epoch:,} images, without those for validation)"
            yield f"hours per epoch              {hours:.2f} {told}"
        if self.ends:
            first = min(self.ends, key=lambda name: self.ends[name])
            yield f"hours of the whole run       {self.ends[first]:.2f} by {first}"
        else:
            yield "hours of the whole run       unknown: no limit in trainer.* or callbacks.throughput.*"
        yield f"Hours are those at a sustained {self.tflops:g} TFLOP/s of each device, which is an assumption."
        if self.devices > 1:
            sent = bytes_sent(self.cost.parameters, self.devices) / 2**20
            yield f"MiB sent per step and device {sent:.1f}, and as many received, to average the gradients"
            least, most = self.waiting
            yield f"waiting for gradients        {least:.1%} to {most:.1%} of a step, at {self.network_gb:g} GB/s"


def forecast(cfg: DictConfig, an_epoch: int | None) -> Forecast:
    """Return what the run of a config would take; nothing is trained.

    Args:
        cfg: of a run.
        an_epoch: number of training images; None if it is not known.

    Raises:
        ValueError: if an assumed speed is not above 0.
    """
    for name in "tflops", "network_gb":
        if not cfg[name] > 0:
            raise ValueError(f"{name} is the speed that the estimate assumes, above 0, got {cfg[name]}")
    with torch.device("meta"):
        flow = instantiate(cfg.model)
    cost, devices = estimate(flow), num_devices(cfg.trainer)
    an_average = cost.parameters if (cfg.get("callbacks") or {}).get("ema") else 0
    gib = {
        "weights": cost.parameters * BYTES / 2**30,
        "gradients": cost.parameters * BYTES / 2**30,
        "optimizer": moments(instantiate(cfg.optimizer), flow) * BYTES / 2**30,
        "average": an_average * BYTES / 2**30,
        "activations": cost.mebibytes * cfg.data.batch_size / devices / 1024,
    }
    ends = limits(cfg, an_epoch, lambda num_images: cost.hours(num_images, cfg.tflops * devices))
    sizes = cfg.data.batch_size, cfg.trainer.accumulate_grad_batches
    return Forecast(cost, devices, gib, *sizes, an_epoch, ends, cfg.tflops, cfg.network_gb)


def why_no_step(cfg: DictConfig, plan: Forecast) -> str | None:
    """Return why this machine cannot take a step of a run: it lacks the GPUs or the memory. None if it can.

    Raises:
        ValueError: if the GPUs that are not here would be too small for the run.
    """
    gib = f"{plan.gib_in_all:.3g}"
    flat = ", set model.memory_flat=true" if "memory_flat" in cfg.model else ""
    if lacks_gpus(cfg.trainer):
        if plan.gib_in_all > cfg.gpu_gib:
            raise ValueError(
                f"the run needs {gib} GiB on each device, and gpu_gib is {cfg.gpu_gib:g}: lower "
                f"data.batch_size{flat}, or take more devices"
            )
        return f"the GPUs are not here; {gib} of {cfg.gpu_gib:g} GiB of each would be used"
    on_cpu = cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    here, has = plan.gib_in_all * plan.devices / cfg.trainer.num_nodes, memory_gib()
    if on_cpu and here > PART_OF_MEMORY * has:
        return (
            f"this machine has {has:.3g} GiB of memory, too few for {here:.3g} GiB and work space: lower "
            f"data.batch_size{flat}, or take a step on another machine"
        )
    return None


def lacks_gpus(trainer: DictConfig) -> bool:
    """Return whether a config asks for GPUs that this process cannot reach, such as on a login node."""
    if trainer.accelerator not in ("gpu", "cuda"):
        return False
    is_launched = "TORCHELASTIC_RUN_ID" in os.environ or is_slurm_task()
    elsewhere = trainer.num_nodes > 1 and not is_launched
    return elsewhere or torch.cuda.device_count() < num_devices(trainer) // trainer.num_nodes


def num_devices(trainer: DictConfig) -> int:
    """Return how many devices train together; "auto" and -1 mean all GPUs of this machine, or one device."""
    all_here = 1 if trainer.accelerator == "cpu" else max(1, torch.cuda.device_count())
    match trainer.devices:
        case ListConfig() as devices:
            each = len(devices)
        case str() as devices if "," in devices:
            each = len(devices.strip(",").split(","))
        case int() | str() as devices:
            each = int(devices) if str(devices).isdigit() else all_here
    return each * trainer.num_nodes


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
    if trainer.max_time is not None:
        found[f"trainer.max_time={trainer.max_time}"] = in_seconds(trainer.max_time) / 3600
    return found


def in_seconds(max_time: str | Mapping[str, float]) -> float:
    """Return a time in seconds, which is written as Lightning's Timer reads it: "DD:HH:MM:SS", or {hours: 1}."""
    if isinstance(max_time, str):
        days, hours, minutes, seconds = map(int, max_time.split(":"))
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    return timedelta(**{str(unit): value for unit, value in max_time.items()}).total_seconds()
