"""The file that a command writes."""

import os
from pathlib import Path

NAMES = {".json": "JSON", ".csv": "CSV", ".safetensors": "weights"}
"""What files hold, by the ending of their names."""


def check_new_file(name: str, told: str | None, ending: str | None = None) -> None:
    """Check that a file can be written, before anything is computed.

    Args:
        name: of the setting.
        told: the file; None if none is to be written.
        ending: of its name; None for any.

    Raises:
        ValueError: if it has another ending than its content.
        OSError: if there is no such folder, if it cannot be written, or if the file is there already.
    """
    if told is None:
        return
    path = Path(told)
    if ending is not None and path.suffix != ending:
        raise ValueError(f"{name}={told} would hold {NAMES[ending]}: give it a name that ends in {ending}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name}={told}: there is no folder {path.parent}: make it, or give another path")
    if path.exists():
        raise FileExistsError(f"{name}={told} holds a result already: give another path, or remove it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{name}={told} cannot be written there: give another path")
