"""Names in tensors are the same names, and worker processes share them."""

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection

import pytest

from data.files.packed import PackedNames
from scripts.benchmark.first_batches import private_bytes

NAMES = ["cat/0.png", "", "Katze mit Ümlaut.jpg", "日本/犬.webp", os.fsdecode(b"broken \xff\xfe.png"), "new\nline"]


def test_names_come_back_as_they_were() -> None:
    packed = PackedNames(NAMES)
    assert list(packed) == NAMES
    assert [packed[-1], packed[-6]] == [NAMES[-1], NAMES[-6]]
    for row in (6, -7):
        with pytest.raises(IndexError):
            packed[row]
    assert list(PackedNames([])) == []


def grown_by_reading(names: list[str] | PackedNames, connection: Connection) -> None:
    """Send by how many bytes reading all names lets the memory of this process alone grow."""
    before = private_bytes(os.getpid())
    for row in range(len(names)):
        names[row]
    connection.send(private_bytes(os.getpid()) - before)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process shares")
@pytest.mark.slow
def test_workers_share_them_where_they_copy_lists() -> None:
    names = [f"some_folder/{number:08}.png" for number in range(500_000)]
    context = multiprocessing.get_context("fork")
    grown = []
    for form in (PackedNames(names), [*names]):
        here, there = context.Pipe()
        process = context.Process(target=grown_by_reading, args=(form, there))
        process.start()
        grown.append(here.recv())
        process.join()
    packed, copied = grown
    assert packed < 2**20 * 4 < 2**20 * 20 < copied
