"""One process at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flows.training.machine.ranks import is_first_rank


@contextmanager
def hold_run_folder(run_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the first rank does this for all ranks.

    When the process ends, the system releases the folder.

    Raises:
        RuntimeError: if another run is in the folder.
    """
    if not is_first_rank():
        yield
        return
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(f"{run_dir} is in use by another run: wait for its end, or give another run_id") from error
    except OSError:  # a folder that cannot be written (reported elsewhere), or a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
