"""One process at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flows.training.machine.ranks import is_first_rank


@contextmanager
def held(path: Path, in_use: str) -> Iterator[None]:
    """Keep other processes out while a lock file is held. When the process ends, the system releases it.

    A folder that cannot be written (reported elsewhere) and a file system without locks keep nobody out.

    Raises:
        RuntimeError: with the text `in_use` if another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(in_use) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextmanager
def hold_out(folder: Path) -> Iterator[None]:
    """Keep other commands out of the folder that a command writes, its `out`.

    Raises:
        RuntimeError: if another command is in it.
    """
    lock = folder / "out.lock"
    with held(lock, f"{folder} is in use by another command: wait, or give another folder by out="):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def hold_run_folder(run_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the first rank does this for all ranks.

    Raises:
        RuntimeError: if another run is in the folder.
    """
    if not is_first_rank():
        yield
        return
    with held(run_dir / ".lock", f"{run_dir} is in use by another run: wait for its end, or give another run_id"):
        yield
