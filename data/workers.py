"""Processes that load images."""

import multiprocessing
import os
import signal
import threading

FOR_THE_MAIN_PROCESS = [getattr(signal, name) for name in ("SIGINT", "SIGUSR1") if hasattr(signal, name)]
"""Signals that workers ignore; Windows has no SIGUSR1."""


def outlive_signals(worker: int) -> None:
    """Let a worker go on when all processes of a job get a signal, so that the main process can store its last step.

    It still ends when the main process ends or terminates it. (On macOS, where a process cannot learn who sent a
    signal, SIGTERM ends a worker as usual.)

    Args:
        worker: number of the worker, which plays no part.
    """
    for number in FOR_THE_MAIN_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int | None) -> None:
    """End this process when the process that started it sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
