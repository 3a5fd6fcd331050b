"""Reads Qt resource files (`.rcc`), in which Qt programs store folders of pictures as one file."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

FOLDER, ZLIB, ZSTD = 2, 1, 4
"""Bits of the flags of an entry."""


def files_with_ending(path: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Go through the files in a resource file that have one of the endings: the path within it, and the content.

    Raises:
        ValueError: if it is not a resource file, if it is damaged, or if a file in it is compressed by zstd.
    """
    archive = path.read_bytes()
    if archive[:4] != b"qres":
        raise ValueError(f"{path} is no Qt resource file: it does not begin with 'qres'")
    try:
        version, tree, data, names = struct.unpack_from(">4I", archive, 4)
        size = 14 if version < 2 else 22
        for name, flags, place in _entries(archive, tree, names, size):
            if name.endswith(endings):
                if flags & ZSTD:
                    raise ValueError(
                        f"{path} cannot be read: {name} in it is compressed by zstd, which is not supported"
                    )
                yield name, _content(archive, flags, data + place)
    except (struct.error, zlib.error, UnicodeDecodeError, RecursionError, EOFError) as error:
        raise ValueError(f"{path} is a damaged Qt resource file ({type(error).__name__}: {error})") from error


def _entries(
    archive: bytes, tree: int, names: int, size: int, node: int = 0, within: str = ""
) -> Iterator[tuple[str, int, int]]:
    """Go through the files under a node: path, flags and place of each file."""
    name, flags = struct.unpack_from(">IH", archive, tree + node * size)
    path = f"{within}/{_name(archive, names + name)}" if node else ""
    if flags & FOLDER:
        count, first = struct.unpack_from(">II", archive, tree + node * size + 6)
        for child in range(first, first + count):
            yield from _entries(archive, tree, names, size, child, path)
    else:
        (place,) = struct.unpack_from(">I", archive, tree + node * size + 10)
        yield path, flags, place


def _name(archive: bytes, place: int) -> str:
    (length,) = struct.unpack_from(">H", archive, place)
    return archive[place + 6 : place + 6 + 2 * length].decode("utf-16-be")


def _content(archive: bytes, flags: int, place: int) -> bytes:
    (length,) = struct.unpack_from(">I", archive, place)
    body = archive[place + 4 : place + 4 + length]
    if len(body) < length:
        raise EOFError("it ends early")
    return zlib.decompress(body[4:]) if flags & ZLIB else body
