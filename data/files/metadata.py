"""Removes the metadata from image files whose metadata are damaged."""

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
KEPT_CHUNKS = (b"tRNS", b"eXIf")
"""These chunks hold the transparency and the orientation."""
JPEG = b"\xff\xd8"
KEPT_SEGMENTS = (0xE1, 0xEE)
"""These segments are Exif, which has the orientation, and Adobe's, which says how colours are stored."""
DROPPED_SEGMENTS = (*range(0xE0, 0xF0), 0xFE)
SHORTEST_ADOBE = 12
AVIF = (b"ftypavif", b"ftypavis")


def without_metadata(content: bytes) -> bytes | None:
    """Return the content of an image file without its metadata; only orientation and transparency are kept.

    Return None if the metadata of this format cannot be separated, or if the file is cut off.
    """
    try:
        if content.startswith(PNG):
            return _png(content)
        if content.startswith(JPEG):
            return _jpeg(content)
        if content[4:].startswith(AVIF):
            return _avif(content)
    except (struct.error, IndexError):
        pass
    return None


def _avif(content: bytes) -> bytes:
    boxes, pixels_box, pixels = content.partition(b"mdat")
    return boxes.replace(b"Exif", b"skip") + pixels_box + pixels  # decoders do not know items of this kind


def _png(content: bytes) -> bytes:
    kept, place = [PNG], len(PNG)
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        ancillary = kind[0] & 32
        if not ancillary or (kind in KEPT_CHUNKS and zlib.crc32(content[place + 4 : end - 4]) == checksum):
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _jpeg(content: bytes) -> bytes:
    kept, place = [JPEG], len(JPEG)
    while content[place + 1] != 0xDA:  # where the pixels begin
        marker, length = content[place + 1], *struct.unpack_from(">H", content, place + 2)
        end = place + 2 + length
        whole = marker != 0xEE or length >= SHORTEST_ADOBE
        if marker not in DROPPED_SEGMENTS or (marker in KEPT_SEGMENTS and whole):
            kept.append(content[place:end])
        place = end
    return b"".join([*kept, content[place:]])
