"""A stack of bits: the coder from which and to which all layers take and give uniform digits."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXACT_BITS = 23
"""Bits of a digit whose number of values is a power of two. The coder has 24 bits of probability, so it is exact."""

ROUNDED_BITS = 12
"""Bits of any other digit: few enough that rounding its probabilities costs nearly nothing."""

Integers = NDArray[np.int64]


class BitStack:
    """Whole numbers that are equally likely, pushed on and popped off a stack of asymmetric numeral systems.

    To pop numbers from bits that are random is to sample them; to push them again gives the bits back. (Bits-back
    coding with an ANS stack: Townsend et al. 2019, arXiv:1901.04866.)

    Args:
        words: uint32, the bits that lie on the stack at the start.

    Raises:
        ModuleNotFoundError: if `constriction` is not installed.
    """

    def __init__(self, words: NDArray[np.uint32]) -> None:
        try:
            from constriction import stream
        except ModuleNotFoundError:
            raise ModuleNotFoundError("coding needs constriction: pip install -e '.[compress]'") from None
        self._coder = stream.stack.AnsCoder(words)
        self._uniform = stream.model.Uniform()
        self.least_words = len(words)

    @property
    def num_words(self) -> int:
        """Number of words of 32 bits on the stack."""
        return int(self._coder.num_words())

    def words(self) -> NDArray[np.uint32]:
        """Return the bits on the stack."""
        found: NDArray[np.uint32] = self._coder.get_compressed()
        return found

    def push(self, values: Tensor, sizes: Tensor | int) -> None:
        """Push whole numbers, each from 0 to below its size; size 1 takes no bits.

        Args:
            values: int64, any shape.
            sizes: int64, the same shape, or one size for all; below 2^52.
        """
        of_all = torch.as_tensor(sizes).expand_as(values)
        self._push(values.flatten().numpy(), of_all.flatten().numpy())

    def pop(self, sizes: Tensor) -> Tensor:
        """Pop whole numbers: the reverse of `push`."""
        found = torch.from_numpy(self._pop(sizes.flatten().numpy())).view(sizes.shape)
        self.least_words = min(self.least_words, self.num_words)
        return found

    def _push(self, values: Integers, sizes: Integers) -> None:
        rest = sizes > 1
        if not rest.any():
            return
        values, sizes = values[rest], sizes[rest]
        shifts = shifts_of(sizes)
        high = values >> shifts
        self._push(values - (high << shifts), sizes_below(high, sizes, shifts))
        self._coder.encode_reverse(high.astype(np.int32), self._uniform, values_of(sizes, shifts))

    def _pop(self, sizes: Integers) -> Integers:
        found = np.zeros_like(sizes)
        rest = sizes > 1
        if rest.any():
            sizes = sizes[rest]
            shifts = shifts_of(sizes)
            high = self._coder.decode(self._uniform, values_of(sizes, shifts)).astype(np.int64)
            found[rest] = (high << shifts) + self._pop(sizes_below(high, sizes, shifts))
        return found


def shifts_of(sizes: Integers) -> Integers:
    """Return how many low bits are left when the first digit of numbers below `sizes` is taken off."""
    bits = np.frexp((sizes - 1).astype(np.float64))[1].astype(np.int64)
    return np.maximum(bits - np.where(sizes == 1 << bits, EXACT_BITS, ROUNDED_BITS), 0)


def values_of(sizes: Integers, shifts: Integers) -> NDArray[np.int32]:
    """Return how many values the first digit has."""
    return (((sizes - 1) >> shifts) + 1).astype(np.int32)


def sizes_below(high: Integers, sizes: Integers, shifts: Integers) -> Integers:
    """Return how many values the low bits have; those below the last first digit have fewer."""
    return np.minimum(1 << shifts, sizes - (high << shifts))
