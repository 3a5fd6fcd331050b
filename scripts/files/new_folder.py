"""The folder that a command writes."""

from pathlib import Path


def check_new_folder(out: str) -> None:
    """Check that a folder is new, before anything is computed.

    Raises:
        FileExistsError: if it is there already.
    """
    if Path(out).exists():
        raise FileExistsError(f"{Path(out)} is there already: give another folder by out=, or remove it")


def new_folder(out: str) -> Path:
    """Make a new folder, when there is something to write into it.

    Raises:
        FileExistsError: if it is there already.
    """
    check_new_folder(out)
    folder = Path(out)
    folder.mkdir(parents=True)
    return folder
