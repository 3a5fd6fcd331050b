"""Images that stay in their files until they are asked for, and which of the files are fit for use."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import track
from torch import Tensor

from data.image_set import Batch, ImageSet

logger = logging.getLogger(__name__)

WORTH_A_BAR = 2000
"""Files to check from which on a progress bar is shown."""


class ImageFiles(ImageSet):
    """Image files below a folder, decoded when they are asked for.

    Reading one that cannot be decoded any more raises ValueError, with the file's name.

    Args:
        root: the folder.
        paths: relative to root.
        labels: int64 `(N,)`, -1 where an image has none.
        image_shape: (C, H, W) of what `read` returns.
        read: a file to uint8 `(C, H, W)`.
        groups: int64 `(N,)`, the same number for variants of one image; None if there are none.
    """

    def __init__(
        self,
        root: Path,
        paths: list[Path],
        labels: Tensor,
        image_shape: tuple[int, int, int],
        read: Callable[[Path], Tensor],
        groups: Tensor | None = None,
    ) -> None:
        self.root = root
        self.groups = groups
        self.paths = paths
        self.labels = labels
        self.shape = image_shape
        self.read = read

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.shape

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.long)
        try:
            images = [self.read(self.root / self.paths[row]) for row in rows]
        except ValueError as error:
            raise ValueError(
                f"{error}, though it was fit for use when the images were checked: put it back as it was, and go on "
                "with resume=auto"
            ) from error
        return Batch(torch.stack(images), self.labels[index], index)


def damaged_images(
    root: Path, paths: Iterable[Path], read: Callable[[Path], Tensor], settings: str, index_dir: Path
) -> dict[Path, str]:
    """Return why each file that cannot be read cannot; every file is decoded once, and the verdict kept in an index.

    A file is decoded again when its size, its time of change (of permissions too) or the settings differ.

    Args:
        root: the folder.
        paths: relative to root.
        read: raises ValueError for a file that is unfit.
        settings: whatever the verdicts depend on beside the file.
        index_dir: where the index goes; never into the folder itself.
    """
    digest = sha256(f"{root.absolute()} {settings}".encode()).hexdigest()[:16]
    index = index_dir / f"{root.name}-{digest}.json"
    stamps = {path: _stamp(root / path) for path in paths}
    with _locked(index):
        known = _recall(index)
        fresh = [path for path, stamp in stamps.items() if known.get(str(path), [])[:2] != stamp]
        if fresh:
            verdicts = dict(zip(fresh, _check(root, fresh, read), strict=True))
            known = {
                str(path): [*stamp, verdicts[path]] if path in verdicts else known[str(path)]
                for path, stamp in stamps.items()
            }
            _store(index, known)
    return {path: str(reason) for path in stamps if (reason := known[str(path)][2]) is not None}


@contextmanager
def _locked(index: Path) -> Iterator[None]:
    """Let one process at a time check the images, so that the others find what it has found."""
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(index.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # `_store` tells of it
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _recall(index: Path) -> dict[str, list[int | str | None]]:
    """Return the stamp and the verdict of each file, of none where the index is missing or damaged."""
    try:
        return {path: [size, time, reason] for path, (size, time, reason) in json.loads(index.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _stamp(path: Path) -> list[int]:
    """Return size in bytes and time of change, -1 for a link to nothing."""
    try:
        status = path.stat()
    except OSError:
        return [-1, -1]
    return [status.st_size, status.st_ctime_ns]


def _check(root: Path, paths: list[Path], read: Callable[[Path], Tensor]) -> list[str | None]:
    """Return what is wrong with each file, None for nothing."""

    def verdict(path: Path) -> str | None:
        try:
            read(root / path)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            track(
                pool.map(verdict, paths),
                f"checking {root}",
                total=len(paths),
                console=Console(stderr=True),
                transient=True,
                disable=len(paths) < WORTH_A_BAR,
            )
        )


def _store(index: Path, known: dict[str, list[int | str | None]]) -> None:
    try:
        partial = index.with_suffix(".partial")
        partial.write_text(json.dumps(known))
        partial.replace(index)
    except OSError as error:
        logger.warning("images are checked anew in every process, as the outcome cannot be kept: %s", error)
