"""A progress bar on standard error that is gone when the work is done."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.progress
from rich.console import Console

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, and show how many of them are done.

    Args:
        items: of the work.
        what: they are.
        total: their number, if `items` does not know it.
    """
    yield from rich.progress.track(items, what, total, console=Console(stderr=True), transient=True)
