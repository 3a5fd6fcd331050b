"""Images that stay in their files until they are needed, and a check of which files can be used."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import PIL
import torch
from filelock import FileLock
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from data.files.formats import NotAnImageError, is_named_like_an_image
from data.files.names import printable
from data.files.packed import PackedNames
from data.image_set import Batch, ImageSet

logger = logging.getLogger(__name__)

WORTH_A_BAR = 2000
"""A progress bar is shown if at least this many files must be checked."""
STAMPERS = 16
"""Threads that ask the disk for sizes and times."""
STAMPED = 500
"""Files that a thread asks for in one go."""
LONGEST_NAME = 50
"""The most characters of the folder's name that the name of its index contains."""


class ImageFiles(ImageSet):
    """Image files below a folder, which are decoded when they are needed.

    If a file cannot be decoded any more, reading it raises ValueError with the name of the file.

    Args:
        root: the folder.
        paths: paths of the files, relative to root.
        labels: int64 `(N,)`, -1 for an image without a label.
        image_shape: shape (C, H, W) of what `read` returns.
        read: a function from the path of a file to uint8 `(C, H, W)`.
        groups: int64 `(N,)`, the same number for variants of one image; None if there are no variants.
        class_names: the name of each label; None if labels have no names.
    """

    def __init__(
        self,
        root: Path,
        paths: Iterable[str],
        labels: Tensor,
        image_shape: tuple[int, int, int],
        read: Callable[[Path], Tensor],
        groups: Tensor | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.root = root
        self.groups = groups
        self.class_names = class_names
        self.paths = PackedNames(paths)
        self.labels = labels
        self.shape = image_shape
        self.read = read

    def name(self, row: int) -> str:
        return str(self.root / self.paths[row])

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
                f"{error}, though it was fit for use when the images were checked: put it back as it was, and give "
                "the same command again (train.py: with resume=auto)"
            ) from error
        return Batch(torch.stack(images), self.labels[index], index)


class Unfit(NamedTuple):
    """Why a file cannot be used, and whether it is an image at all, by its name or by its content."""

    reason: str
    is_image: bool


Stamp = tuple[int, int]
"""Size of a file in bytes, and its time of change in nanoseconds."""


class Verdicts(NamedTuple):
    """What is known about files: the stamp that each one had when it was checked, and which ones cannot be used."""

    stamps: dict[str, Stamp]
    unfit: dict[str, Unfit]


def damaged_images(
    root: Path, paths: Iterable[str], read: Callable[[Path], Tensor], settings: str, index_dir: Path
) -> dict[str, Unfit]:
    """Return the files that cannot be used, each with the reason.

    Every file is decoded once, and the verdict is kept in an index. A file is decoded again if its size, its time of
    change (also of its permissions), the version of Pillow or the settings have changed.

    Args:
        root: the folder.
        paths: paths of the files, relative to root.
        read: raises ValueError for a file that cannot be used, and NotAnImageError for a file that is no image.
        settings: everything on which the verdicts depend, except the file.
        index_dir: folder for the index; it is never the folder of the images.

    Raises:
        OSError: if the disk or the network fails. The verdicts until then are kept.
    """
    key = os.fsencode(root.absolute()) + f" {settings} {PIL.__version__}".encode()
    index = index_dir / f"{root.name[:LONGEST_NAME]}-{sha256(key).hexdigest()[:16]}.json"
    stamps = _stamps(root, [*paths])
    known = _recall(index)
    if _unknown(stamps, known):
        with _locked(index):
            known = _recall(index)
            fresh = dict.fromkeys(_unknown(stamps, known))
            unfit = {path: reason for path, reason in known.unfit.items() if path in stamps and path not in fresh}
            known = Verdicts({path: stamp for path, stamp in stamps.items() if path not in fresh}, unfit)
            try:
                for path, verdict in zip(fresh, _check(root, [*fresh], read), strict=True):
                    known.stamps[path] = stamps[path]
                    if verdict is not None:
                        unfit[path] = verdict
            finally:
                if fresh:
                    _store(index, known)
    return {path: known.unfit[path] for path in stamps if path in known.unfit}


def _unknown(stamps: dict[str, Stamp], known: Verdicts) -> list[str]:
    return [path for path, stamp in stamps.items() if known.stamps.get(path) != stamp]


@contextmanager
def _locked(index: Path) -> Iterator[None]:
    """Let only one process at a time check the images, so that the others find its verdicts."""
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(index.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # `_store` warns about this
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _recall(index: Path) -> Verdicts:
    """Return what is known about the files. If the index is missing or damaged, nothing is."""
    try:
        known = json.loads(index.read_text())
        stamps = dict(zip(known["paths"], zip(known["sizes"], known["times"], strict=True), strict=True))
        return Verdicts(stamps, {path: Unfit(reason, is_image) for path, (reason, is_image) in known["unfit"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Verdicts({}, {})


def _stamps(root: Path, paths: list[str]) -> dict[str, Stamp]:
    """Return the stamp of each file; -1 twice for a link to nothing.

    A disk that is far away takes its time for each file, so several are asked for at once.
    """
    folder = str(root)

    def stamps(some: list[str]) -> list[Stamp]:
        found = []
        for path in some:
            try:
                status = os.stat(f"{folder}/{path}")
                found.append((status.st_size, status.st_ctime_ns))
            except OSError:
                found.append((-1, -1))
        return found

    parts = [paths[start : start + STAMPED] for start in range(0, len(paths), STAMPED)]
    with ThreadPoolExecutor(STAMPERS) as pool:
        return dict(zip(paths, chain.from_iterable(pool.map(stamps, parts)), strict=True))


def _check(root: Path, paths: list[str], read: Callable[[Path], Tensor]) -> Iterator[Unfit | None]:
    """Return what is wrong with each file, None if nothing is wrong."""

    def verdict(path: str) -> Unfit | None:
        try:
            read(root / path)
        except NotAnImageError as error:
            return Unfit(str(error), is_named_like_an_image(Path(path)))
        except ValueError as error:
            return Unfit(str(error), True)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(
            pool.map(verdict, paths),
            f"checking {escape(printable(root))}",
            total=len(paths),
            console=Console(stderr=True),
            transient=True,
            disable=len(paths) < WORTH_A_BAR,
        )


def _store(index: Path, known: Verdicts) -> None:
    partial = index.with_suffix(f".{uuid4().hex}.partial")  # without locks, other processes may write, too
    try:
        sizes, times = zip(*known.stamps.values(), strict=True) if known.stamps else ((), ())
        columns = {"paths": [*known.stamps], "sizes": sizes, "times": times, "unfit": known.unfit}
        partial.write_text(json.dumps(columns))
        partial.replace(index)
    except OSError as error:
        logger.warning("images are checked again in every process, as the results cannot be stored: %s", error)
        with suppress(OSError):
            partial.unlink()
