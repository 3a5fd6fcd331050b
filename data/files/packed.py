"""Many names in one tensor, so that worker processes share them."""

import os
from collections.abc import Iterable

import numpy as np
import torch


class PackedNames:
    """The names of files, in the memory of two tensors however many they are.

    Python counts the references to each object of a list. So a worker process that reads a list of names writes to the
    memory around each name, and with time it holds a copy of all of them. Tensors stay shared.

    Args:
        names: names or paths of files.

    Raises:
        IndexError: if a row is asked for that is not there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        lengths = torch.tensor([0, *map(len, encoded)])
        self.bytes = torch.from_numpy(np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8))
        self.starts = lengths.cumsum(0)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> str:
        row = range(len(self))[row]
        start, end = self.starts[row : row + 2].tolist()
        return os.fsdecode(self.bytes[start:end].numpy().tobytes())
