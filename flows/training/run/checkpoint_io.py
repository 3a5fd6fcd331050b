"""Checkpoints that are complete on the disk, or not there at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from flows.files import CheckpointError
from flows.training.run.checkpoint import run_of
from flows.training.run.id import how_to_resume


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a new file beside the old one, and replace the old one when everything is on the disk.

    (Lightning's own way uses the folder for temporary files, which is often on another disk. From there, a file can be
    left half copied.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save.

        Raises:
            CheckpointError: if the file cannot be written, such as on a full disk; the file before it stays.
        """
        partial = Path(f"{path}.partial")
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(partial.parent)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            before = "the one before it is whole" if Path(path).exists() else "none was stored before it"
            raise CheckpointError(
                f"the checkpoint {path} cannot be written ({_reason(error)}): {before}; make room, then go on with "
                + how_to_resume(run_of(path))
            ) from error


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk, too, if the system can open a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: BaseException) -> str:
    """Return what the system said; torch wraps it."""
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
