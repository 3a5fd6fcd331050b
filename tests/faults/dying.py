"""Checkpoints in whose middle the machine loses power."""

import io
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from flows.training import WholeCheckpointIO

save = torch.save


def die(*args: Any) -> None:
    """End this process as the system's kill does."""
    os.kill(os.getpid(), signal.SIGKILL)


def save_half(checkpoint: Any, file: Any) -> None:
    """Write the first half of what should be written, then die."""
    whole = io.BytesIO()
    save(checkpoint, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    die()


POINTS = {
    "half-way": ("flows.training.run.checkpoint_io.torch.save", save_half),
    "before the renaming": ("flows.training.run.checkpoint_io.Path.replace", die),
    "after the renaming": ("flows.training.run.checkpoint_io._sync", die),
}
"""What to put in place of what, to die there."""


class DyingIO(WholeCheckpointIO):
    """Die in a certain save, at a certain point."""

    def __init__(self, point: str, number: int) -> None:
        super().__init__()
        self.point = POINTS[point]
        self.remaining = number

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save, or die."""
        self.remaining -= 1
        if self.remaining:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            with patch(*self.point):
                super().save_checkpoint(checkpoint, path, storage_options)


def plugins(point: str, number: int) -> list[Any]:
    """Return the plugins of a trainer."""
    return [DyingIO(point, number)]
