"""Names in messages."""

from collections.abc import Iterable
from pathlib import Path

LISTED = 10
"""Names that a line lists."""


def printable(name: str | Path) -> str:
    """Return a name in one line of valid text: whatever cannot be printed, such as a newline, is written as `\\n`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(name))


def shortened(items: Iterable[str]) -> str:
    """Return the items with commas between them, the last of many only counted."""
    items = list(items)
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return ", ".join(items[:LISTED]) + more
