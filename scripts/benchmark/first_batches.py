"""A callback that measures the start of a training: when the first step ends, and what each worker adds to memory."""

import json
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

BATCHES = 30
"""Memory is read after so many batches, when each worker has served several."""


class FirstBatches(Callback):
    """Write the time at the end of the first step, and the memory that only the workers hold, into a JSON file.

    Args:
        path: the file. It gets `time`, in seconds since 1970, and `worker_bytes`, of each worker process.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.time = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 1:
            self.time = time.time()
        if trainer.global_step == BATCHES:
            workers = [private_bytes(process.pid) for process in active_children() if process.pid is not None]
            self.path.write_text(json.dumps({"time": self.time, "worker_bytes": workers}))


def private_bytes(pid: int) -> int:
    """Return the bytes of memory that a process shares with no other. (Linux only.)"""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
