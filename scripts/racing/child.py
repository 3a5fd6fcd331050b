"""A command that stops when this process is asked to stop."""

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

STOPPED = 130
"""Exit status of a command that was asked to stop."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_to_end(command: Sequence[str]) -> int:
    """Run a command, and return its exit status: `STOPPED` if the command or this process was asked to stop.

    The command gets the signals that ask this process to stop, and is waited for, as it may have much to store. It is
    in a process group of its own, so that it gets each signal once. A second Ctrl-C is passed on, too. A second SIGTERM
    is not, because some programs, such as timeout, send two at a time.
    """
    asked: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: Any) -> None:
        if running and (not asked or number == signal.SIGINT):
            running[0].send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
        asked.append(number)

    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, pass_on) for number in heard}
    try:
        process = subprocess.Popen(command, process_group=0)
        running.append(process)
        if asked:
            process.terminate()
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return STOPPED if asked else status
