"""How the C library hands memory to tensors on the CPU."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

LARGEST_THRESHOLD = 32 * 2**20
"""The largest value that glibc accepts for M_MMAP_THRESHOLD on 64-bit machines."""


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensors of this process, up to 32 MiB for each tensor.

    By default, glibc gives the pages of larger tensors back to the kernel, which clears them again for every activation
    of every step. With another C library, nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
