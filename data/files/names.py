"""Names in messages."""

from collections.abc import Iterable
from pathlib import Path

LISTED = 10
"""The most names that one line lists."""


def printable(name: str | Path) -> str:
    """Return a name as one line of valid text. Characters that cannot be printed are escaped, a newline as `\\n`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(name))


def shortened(items: Iterable[str]) -> str:
    """Return the items with commas between them. If there are many, the last ones are only counted."""
    items = list(items)
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return ", ".join(items[:LISTED]) + more
