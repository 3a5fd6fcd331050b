"""The file that a coded image comes back as."""

from pathlib import PurePosixPath


def decoded_name(name: str) -> PurePosixPath:
    """Return the PNG file of an image with a name; files of other kinds keep their ending before `.png`.

    Raises:
        ValueError: if the name leads out of the folder.
    """
    file = PurePosixPath(name if name.lower().endswith(".png") else f"{name}.png")
    if file.is_absolute() or ".." in file.parts:
        raise ValueError(f"the stream names {name!r}, which lies outside of the folder: it was not made by compress.py")
    return file
