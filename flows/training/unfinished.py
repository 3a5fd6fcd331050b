"""Samples that are not all drawn yet: a record in their folder, by which the same command goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows.training.run.lock import hold_out
from flows.whole_file import whole_file

RECORD = "unfinished.json"
"""The settings of the samples, in their folder until all are drawn."""


def is_unfinished(folder: Path) -> bool:
    """Return whether a command is drawing samples into a folder, or was when it was interrupted."""
    return (folder / RECORD).exists()


def has_samples(folder: Path) -> bool:
    """Return whether a command has begun to write samples into a folder."""
    return any(folder.glob("temperature-*"))


def check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Check that the samples of an unfinished folder, if there are any, have the same settings.

    Raises:
        FileExistsError: if not; the message names what differs.
    """
    if not has_samples(folder):
        return
    begun = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    differ = [key for key, value in settings.items() if begun.get(key) != value]
    if differ:
        raise FileExistsError(
            f"{folder} holds samples already, which were begun with another {', '.join(differ)}: give the same again "
            "to go on, give another folder by out=, or remove it"
        )


@contextmanager
def hold_unfinished(folder: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Keep a record in a folder until all of its samples are drawn, and other commands out of it.

    Raises:
        RuntimeError: if another command is in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hold_out(folder), _recorded(folder, settings):
            yield
    finally:
        if not has_samples(folder):
            with suppress(OSError):  # other files are in the folder
                folder.rmdir()


@contextmanager
def _recorded(folder: Path, settings: dict[str, Any]) -> Iterator[None]:
    record = folder / RECORD
    try:
        for left in (*folder.glob("png-*.partial"), *folder.glob("temperature-*/*/png-*.partial")):
            left.unlink()
        with whole_file(record) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        yield
        record.unlink()
    except KeyboardInterrupt as stop:
        if has_samples(folder):
            raise KeyboardInterrupt(f"interrupted: the same command goes on if it has out={folder}") from stop
        raise
    finally:
        if not has_samples(folder):
            record.unlink(missing_ok=True)
