"""Coded images as files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np

from flows.coding.codec import Coded
from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow

MAGIC = b"flows.coding 1\n"
"""The first bytes of each file: kind and version."""

DIGEST_SIZE = sha256().digest_size


def write_stream(path: str | Path, flow: ImageFlow, coded: Coded, names: Sequence[str] = ()) -> None:
    """Write coded images into a file: a line that says what it is, a line of JSON, the words, and a checksum.

    Args:
        path: of the file.
        flow: that coded the images.
        coded: the images.
        names: one for each image, or none.
    """
    about = asdict(coded) | {"flow": fingerprint(flow), "names": [*names]}
    words = about.pop("words").astype("<u4").tobytes()
    content = MAGIC + json.dumps(about).encode() + b"\n" + words
    Path(path).write_bytes(content + sha256(content).digest())


def read_stream(path: str | Path, flow: ImageFlow) -> tuple[Coded, list[str]]:
    """Read coded images and their names.

    Raises:
        ValueError: if it is no such file, if it is damaged or cut, or if another flow coded the images.
    """
    whole = Path(path).read_bytes()
    content, digest = whole[:-DIGEST_SIZE], whole[-DIGEST_SIZE:]
    if not whole.startswith(MAGIC):
        raise ValueError(f"{path} holds no coded images: give a file that scripts/compress.py wrote")
    if sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged, or its end is missing: get the whole file again")
    line, _, words = content[len(MAGIC) :].partition(b"\n")
    about = json.loads(line)
    if about.pop("flow") != fingerprint(flow):
        raise ValueError(f"the images of {path} were coded by another flow: give the flow that coded them")
    names = about.pop("names")
    return Coded(words=np.frombuffer(words, "<u4").astype(np.uint32), **about), names
