"""A random permutation whose entries are computed one by one, so that no table of all rows is made."""

import math
from hashlib import sha256

import torch
from torch import Tensor


def generator(*key: int | str) -> torch.Generator:
    """Return a generator of random numbers that depends on nothing but the key.

    Args:
        *key: says what the numbers are for: for example a purpose, a seed and an epoch.
    """
    digest = sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


class Permutation:
    """A random permutation of range(num_rows) that depends on nothing but the key.

    To begin takes time and memory in proportion to the square root of num_rows, and each entry takes the same time
    however many rows there are. The rows fill a grid, line by line. In turns, each point of the grid is shifted along
    its column or along its line, by a random number that all points of this column or line share: a Feistel network. A
    point that ends outside of the rows goes through the network again, until it is one of them. (Black and Rogaway
    2002, "Ciphers with Arbitrary Finite Domains", sections 4 and 5.)

    Args:
        num_rows: how many rows to permute.
        *key: as in `generator`.
    """

    ROUNDS = 4  # each one shifts once along the columns and once along the lines

    def __init__(self, num_rows: int, *key: int | str) -> None:
        self.num_rows = num_rows
        self.columns = math.isqrt(num_rows - 1) + 1
        self.lines = -(-num_rows // self.columns)
        random = generator(*key)
        self.shifts = [
            (
                torch.randint(self.lines, (self.columns,), generator=random),
                torch.randint(self.columns, (self.lines,), generator=random),
            )
            for _ in range(self.ROUNDS)
        ]

    def __getitem__(self, places: Tensor) -> Tensor:
        """Return the entries at some places.

        Args:
            places: int64, of any shape, from 0 to num_rows - 1.

        Returns:
            int64, of the same shape.
        """
        rows = self._once(places)
        while (outside := rows >= self.num_rows).any():
            rows = torch.where(outside, self._once(rows), rows)
        return rows

    def _once(self, rows: Tensor) -> Tensor:
        """Send points of the grid, which are counted line by line, through the network."""
        line, column = rows // self.columns, rows % self.columns
        for down, across in self.shifts:
            line = (line + down[column]) % self.lines
            column = (column + across[line]) % self.columns
        return line * self.columns + column
