"""Printing that never ends a command, whatever reads its output."""

import errno
import io
import os
import sys
from typing import Any

GONE = (errno.EPIPE, errno.EIO)
"""Errors of the system when the reader of a pipe has ended, or a terminal was closed."""


class Unheard(io.FileIO):
    """An open file that drops its data when nobody reads it any more."""

    def write(self, data: Any) -> int:
        """Write the data, or drop them if nobody reads them."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


def print_whatever_comes() -> None:
    """Make sure that printing never ends the program.

    The program continues if the output is closed, if its reader ends earlier (as in `| head`), and if its encoding
    lacks a letter.
    """
    for name, number in ("stdout", 1), ("stderr", 2):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python started
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and stream.fileno() == number:  # nobody has replaced it
            stream.flush()
            raw = Unheard(number, "w", closefd=False)
            made = io.TextIOWrapper(
                raw if stream.write_through else io.BufferedWriter(raw),
                stream.encoding,
                "backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, made)
