"""Lightning's Trainer, adapted to the training of flows."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import wraps
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from flows.training.loops import ResumableLoop
from flows.training.machine.slurm import is_slurm_task
from flows.training.run.checkpoint_io import WholeCheckpointIO

AT_LEAST = {
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "gradient_clip_val": 0,
}
ABOVE_ZERO = {
    "val_check_interval": "every run validates, at the latest at its end",
    "limit_train_batches": "leave it out for all batches",
    "limit_val_batches": "validation chooses the model to test",
    "limit_test_batches": "test=false leaves the test set unread",
}
FIXED: dict[str, tuple[Any, str]] = {
    "overfit_batches": (0, "the images have an order of their own; to see a model overfit, train on a folder of few"),
    "fast_dev_run": (False, "it stores nothing to test; trainer.max_steps=1 is a short run"),
    "barebones": (False, "it logs and stores nothing; callbacks.grids=null and logger=null save what time they take"),
    "enable_checkpointing": (True, "the best checkpoint is what is tested"),
    "num_sanity_val_steps": (0, "validation before the first step would see averaged weights that do not exist yet"),
    "reload_dataloaders_every_n_epochs": (0, "the images stay the same, and each epoch has an order of its own"),
    "use_distributed_sampler": (False, "the data serve each rank its images themselves"),
}
"""Settings of Lightning that have the same value in all runs, and why."""


class FlowTrainer(L.Trainer):
    """Lightning's Trainer, whose runs end with a validation, and which refuses settings that it would not obey.

    It takes the arguments of `lightning.Trainer`. An accelerator "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        ValueError: if an argument is out of range, or asks for something that has no meaning for these runs.
    """

    @wraps(L.Trainer.__init__)  # type: ignore[misc]
    def __init__(self, **settings: Any) -> None:
        settings = {**{name: value for name, (value, _) in FIXED.items()}, **settings}
        _check_numbers(settings)
        _check_times(settings)
        _check_fixed(settings)
        if settings.get("accelerator", "auto") == "auto":
            settings["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
        if settings["accelerator"] == "cpu":
            _check_cpu(settings.get("devices", "auto"), settings.get("precision"))
        super().__init__(**settings)
        if isinstance(self.accelerator, MPSAccelerator):
            raise ValueError("Apple's GPUs lack float64, which the inverses need: use trainer=cpu")
        if not isinstance(self.strategy, SingleDeviceStrategy | DDPStrategy):
            raise ValueError(f"strategy is auto or ddp, got {type(self.strategy).__name__}")
        self.fit_loop = ResumableLoop(self)


def _check_numbers(settings: Mapping[str, Any]) -> None:
    for name, least in AT_LEAST.items():
        value = settings.get(name)
        if value is not None and not value >= least:
            off = ", where 0 or null is off" if name == "gradient_clip_val" else ""
            raise ValueError(f"{name} is at least {least}{off}, got {value}")
    for name, why in ABOVE_ZERO.items():
        value = settings.get(name)
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"{name} is above 0 ({why}), got {value}")


def _check_times(settings: Mapping[str, Any]) -> None:
    for name in ("max_time", "val_check_interval"):
        value = settings.get(name)
        match value:
            case str():
                is_sound = bool(re.fullmatch(r"\d+(:\d+){3}", value) and re.search(r"[1-9]", value))
            case dict():
                is_sound = timedelta(**value) > timedelta()
            case timedelta():
                is_sound = value > timedelta()
            case _:
                continue
        if not is_sound:
            raise ValueError(f"{name} is a time above zero, written DD:HH:MM:SS, got {value!r}")


def _check_fixed(settings: Mapping[str, Any]) -> None:
    for name, (value, why) in FIXED.items():
        if settings[name] not in (None, value):
            raise ValueError(f"{name} is {str(value).lower()} in all runs, got {str(settings[name]).lower()}: {why}")


def _check_cpu(devices: Any, precision: Any) -> None:
    if isinstance(devices, list) or (isinstance(devices, int) and devices < 1):
        raise ValueError(f"devices is the number of processes on the CPU, at least 1, got {devices}")
    if str(precision) in ("16", "16-mixed"):
        raise ValueError(f"precision {precision} is for GPUs: take bf16-mixed on the CPU")


def trainer_plugins() -> list[Any]:
    """Return plugins for the trainer: whole checkpoints, and SLURM without Lightning's requeueing (`GracefulStop`)."""
    return [WholeCheckpointIO(), *([SLURMEnvironment(auto_requeue=False)] if is_slurm_task() else [])]
