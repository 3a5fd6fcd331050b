"""Writes Qt resource files in the same way as Qt's `rcc`."""

import struct
import zlib
from pathlib import Path


def write_rcc(path: Path, files: dict[str, bytes], *, version: int = 3, compress: bool = False) -> None:
    """Write files into a resource file. The keys of `files` are paths such as `gcompris/photo.webp`."""
    tree: dict = {}
    for name, content in files.items():
        *folders, last = name.split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})
        here[last] = content
    nodes, names, data = [b""], bytearray(), bytearray()

    def name_of(text: str) -> int:
        place = len(names)
        names.extend(struct.pack(">HI", len(text), 0) + text.encode("utf-16-be"))
        return place

    def write(node: int, name: int, item: dict | bytes) -> None:
        if isinstance(item, dict):
            first = len(nodes)
            nodes.extend([b""] * len(item))
            entry = struct.pack(">IHII", name, 2, len(item), first)
            for place, (text, child) in enumerate(item.items()):
                write(first + place, name_of(text), child)
        else:
            entry = struct.pack(">IHHHI", name, int(compress), 0, 0, len(data))
            body = struct.pack(">I", len(item)) + zlib.compress(item) if compress else item
            data.extend(struct.pack(">I", len(body)) + body)
        nodes[node] = entry + (bytes(8) if version >= 2 else b"")

    write(0, 0, tree)
    header = 20 + (4 if version >= 3 else 0)
    packed = b"".join(nodes)
    places = header, header + len(packed), header + len(packed) + len(data)
    flags = bytes(4) if version >= 3 else b""
    path.write_bytes(b"qres" + struct.pack(">4I", version, *places) + flags + packed + data + names)
