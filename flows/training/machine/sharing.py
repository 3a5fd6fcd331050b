"""Sharing the work of one command among processes that srun or torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""How long a process waits for the others, which may have slower devices."""


@dataclass(frozen=True)
class Share:
    """The part of the work that one process does.

    Args:
        rank: number of the process.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the things that exist only once, such as tables."""
        return self.rank == 0

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's items: every `world_size`-th."""
        return items[self.rank :: self.world_size]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier()

    def gathered(self, items: list[T]) -> list[T]:
        """Return the results of all processes, one per item, in the order before sharing.

        Tensors among the results must lie on the CPU.
        """
        if self.world_size == 1:
            return items
        received: list[list[T]] = [[]] * self.world_size
        dist.all_gather_object(received, items)
        missing = object()
        in_turns = zip_longest(*received, fillvalue=missing)
        return [item for item in chain.from_iterable(in_turns) if item is not missing]  # type: ignore[misc]


@contextmanager
def shared() -> Iterator[Share]:
    """Join the processes of this command, which wait for each other here and at the end.

    Under `torchrun` and `srun`, each process gets a part of the work, and its own GPU if there are GPUs. Otherwise,
    there is one process, which does all of the work.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    by_srun = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if not (by_torchrun or by_srun):
        yield Share()
        return
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    environment = TorchElasticEnvironment() if by_torchrun else SLURMEnvironment()
    if torch.cuda.is_available():
        torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
    os.environ.setdefault("MASTER_ADDR", environment.main_address)
    os.environ.setdefault("MASTER_PORT", str(environment.main_port))
    share = Share(environment.global_rank(), environment.world_size())
    dist.init_process_group("gloo", timeout=PATIENCE, rank=share.rank, world_size=share.world_size)
    try:
        yield share
        dist.barrier()
    finally:
        dist.destroy_process_group()
