"""The files below a folder: each real folder and each linked file once, without the files of systems and tools."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.files.formats import is_named_like_an_image
from data.files.names import printable

SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)


@dataclass
class Listing:
    """The files and folders below a folder.

    Args:
        root: the folder.
        files: paths of the files, relative to root, in the order of their parts.
        folders: names of the folders directly in root, with files or without.
        passed_over: for each reason, how many files and folders are not listed.
        real_folders: real paths of the folders.
        real_files: real paths of those files that are links.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    real_folders: set[str] = field(default_factory=set)
    real_files: set[str] = field(default_factory=set)

    def holds(self, real_file: str) -> bool:
        """Return whether a file is listed, given its real path."""
        folder, name = os.path.split(real_file)
        return real_file in self.real_files or (folder in self.real_folders and not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is one that systems and tools leave."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def images_in(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted by name, that have the ending of an image and are not hidden."""
    return sorted(path for path in folder.iterdir() if is_named_like_an_image(path) and not is_hidden(path.name))


def check_folder(root: Path) -> None:
    """Raise FileNotFoundError or NotADirectoryError if there is no such folder."""
    if root.is_dir():
        return
    if root.exists():
        raise NotADirectoryError(f"{printable(root)} is a file: unpack it if it is an archive, and give the folder")
    raise FileNotFoundError(f"there is no folder {printable(root)}: give the folder that holds your images")


def list_files(root: Path) -> Listing:
    """List the files below a folder, and follow links.

    Real folders and files come first. Links to other folders and files come after them, in the order of their names.

    Raises:
        FileNotFoundError: if there is no such folder, or if a link in it leads nowhere and may have been a folder.
        OSError: if a folder cannot be read.
    """
    check_folder(root)
    listing = Listing(root)
    linked: list[str] = []
    links = [""]
    while links:
        links = [deeper for link in sorted(links, key=_parts) for deeper in _follow(listing, link, linked)]
    for path in sorted(linked, key=_parts):
        real = os.path.realpath(root / path)
        if listing.holds(real) and os.path.exists(real):
            listing.passed_over["links to what is counted already"] += 1
        else:
            listing.real_files.add(real)
            listing.files.append(path)
    listing.files.sort(key=_parts)
    return listing


def _parts(path: str) -> str:
    """Return what paths are sorted by, so that they are in the order of their parts."""
    return path.replace("/", "\0")


def _follow(listing: Listing, start: str, linked: list[str]) -> Iterator[str]:
    """Add a folder and all real folders below it, unless they are listed already. Return their links to folders."""
    real_start = os.path.realpath(listing.root / start)
    if start and Path(os.path.realpath((listing.root / start).parent)).is_relative_to(real_start):
        listing.passed_over["links to a folder around them"] += 1
        return
    waiting = [(start, real_start)]
    while waiting:
        here, real = waiting.pop()
        if real in listing.real_folders:
            listing.passed_over["links to what is counted already"] += 1
            continue
        listing.real_folders.add(real)
        if here and "/" not in here:
            listing.folders.append(here)
        with os.scandir(listing.root / here) as entries:
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if is_hidden(entry.name):
                    listing.passed_over["hidden or of the system"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((path, os.path.join(real, entry.name)))
                elif entry.is_file(follow_symlinks=False):
                    listing.files.append(path)
                elif not entry.is_symlink():
                    listing.passed_over["pipes, sockets and devices"] += 1
                elif os.path.isdir(entry):
                    yield path
                else:
                    _check_dangling(listing.root, path)
                    linked.append(path)


def _check_dangling(root: Path, path: str) -> None:
    """Refuse a link to nothing in the place of a class: without the class, the labels of other classes would change."""
    if "/" not in path and not is_named_like_an_image(Path(path)) and not os.path.exists(root / path):
        raise FileNotFoundError(
            f"{printable(root / path)} is a link to nothing: restore the folder or file that it led to, or remove it"
        )


def check_apart(one: Listing, other: Listing) -> None:
    """Raise ValueError if two splits hold the same real folder or file. The message names it."""
    shared = sorted(one.real_folders & other.real_folders)
    shared += sorted(file for file in one.real_files if other.holds(file))
    shared += sorted(file for file in other.real_files if one.holds(file))
    if shared:
        raise ValueError(
            f"{printable(one.root)} and {printable(other.root)} both hold {printable(shared[0])}: an image belongs to "
            "one split, so remove the link in one of them, or give other folders by data.source"
        )
