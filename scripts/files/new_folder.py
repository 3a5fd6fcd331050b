"""The folder that a command writes."""

from pathlib import Path


def new_folder(out: str) -> Path:
    """Make a new folder.

    Raises:
        FileExistsError: if it is there already.
    """
    folder = Path(out)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: give another folder by out=, or remove it")
    folder.mkdir(parents=True)
    return folder
