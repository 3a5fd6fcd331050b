"""The pages for readers: README.md and all that its links lead to."""

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@cache
def text(page: str) -> str:
    """Return a page, given its path from the root of the project."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code of a page in one language."""
    return [code for name, code in FENCE.findall(text(page)) if name == language]


def names_of(page: str, code: str) -> dict[str, Any]:
    """Run an example of a page, and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(compile(code, page, "exec"), names)
    return names


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", text(page))


def spans(page: str) -> list[str]:
    """Return what stands between single backticks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> list[tuple[str, str]]:
    """Return path (from the root of the project) and anchor of each link to a place in the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    here = [target.partition("#") for target in targets if "://" not in target]
    return [
        (posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page, anchor)
        for path, _, anchor in here
    ]


def anchors(page: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def reachable() -> list[str]:
    """Return README.md and the pages that its links lead to, in the order in which a reader meets them."""
    pages = ["README.md"]
    for page in pages:
        pages += dict.fromkeys(path for path, _ in links(page) if path.endswith(".md") and path not in pages)
    return pages


HISTORY = "CHANGELOG.md"
"""What it names may be gone by now."""

PAGES = [page for page in reachable() if page != HISTORY]
