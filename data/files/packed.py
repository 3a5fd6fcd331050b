"""Many names in one tensor, so that worker processes share them."""

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import torch


class PackedNames(Sequence[str]):
    """The names of files, in the memory of two tensors however many they are.

    Python counts the references to each object of a list. So a worker process that reads a list of names writes to the
    memory around each name, and with time it holds a copy of all of them. Tensors stay shared.

    Args:
        names: names or paths of files.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        lengths = torch.tensor([0, *map(len, encoded)])
        self.bytes = torch.from_numpy(np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8))
        self.starts = lengths.cumsum(0)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        start, end = self.starts[range(len(self))[row] :][:2].tolist()
        return os.fsdecode(self.bytes[start:end].numpy().tobytes())
