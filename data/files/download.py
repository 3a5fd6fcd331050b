"""Downloads by torchvision, on machines that may have no network."""

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

PROBE_SECONDS = 4
STALL_SECONDS = 60


def download(dataset: Callable[..., object], url: str, folder: Path) -> None:
    """Let a torchvision dataset download itself into a folder, unless its mirror cannot be reached.

    Args:
        dataset: called as `dataset(folder, download=True)`.
        url: a file of the mirror, which is requested first. Without this, torchvision waits forever if packets get
            lost.
        folder: the root of the data set.

    Raises:
        OSError: if the mirror does not answer.
        RuntimeError: if torchvision finds a damaged file.
    """
    urlopen(url, timeout=PROBE_SECONDS).close()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        dataset(folder, download=True)
    finally:
        socket.setdefaulttimeout(before)
