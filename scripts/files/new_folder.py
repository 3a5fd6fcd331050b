"""The folder that a command writes into."""

import os
from pathlib import Path
from tempfile import TemporaryFile


def check_new_folder(out: str) -> None:
    """Check that a folder is new and can be made, before anything is computed.

    Raises:
        OSError: if it is there already, or if nothing can be written where it would be.
    """
    if Path(out).exists():
        raise FileExistsError(f"{Path(out)} is there already: give another folder by out=, or remove it")
    parent = next(path for path in Path(out).absolute().parents if path.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"out={out} would be in {parent}, which is a file: give another folder by out=")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"out={out} cannot be written in {parent}: give another folder by out=")


def make_folder(folder: Path) -> None:
    """Make a folder if it is not there, and check that files can be written there.

    Raises:
        OSError: if not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be a folder for results ({error.strerror}): give another path") from error


def new_folder(out: str) -> Path:
    """Make a new folder, when there is something to write into it.

    Raises:
        OSError: as `check_new_folder`.
    """
    check_new_folder(out)
    folder = Path(out)
    folder.mkdir(parents=True)
    return folder
