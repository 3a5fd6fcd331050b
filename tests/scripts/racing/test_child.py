"""A command that stops when its parent is asked to stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scripts.racing.child import STOPPED, run_to_end

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Child:
    """Waits while its parent gets signals, and notes what is passed on."""

    parent_gets: tuple[signal.Signals, ...] = ()
    got: list[signal.Signals]

    def __init__(self, command: list[str], process_group: int) -> None:
        assert process_group == 0, "it would get signals of the group twice"
        type(self).got = []

    def send_signal(self, number: signal.Signals) -> None:
        self.got.append(number)

    def wait(self) -> int:
        for number in self.parent_gets:
            os.kill(os.getpid(), number)
        return 7


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Child]]:
    before = [signal.getsignal(number) for number in (INT, TERM, HUP)]
    monkeypatch.setattr(subprocess, "Popen", Child)
    yield Child
    assert [signal.getsignal(number) for number in (INT, TERM, HUP)] == before


@pytest.mark.parametrize(
    ("parent_gets", "child_gets"),
    [
        ((INT,), [INT]),
        ((TERM,), [TERM]),
        ((HUP,), [TERM]),
        ((INT, INT), [INT, INT]),
        ((TERM, TERM), [TERM]),
        ((TERM, INT), [TERM, INT]),
    ],
)
def test_signals_are_passed_on_and_the_child_is_waited_for(
    child: type[Child],
    monkeypatch: pytest.MonkeyPatch,
    parent_gets: tuple[signal.Signals, ...],
    child_gets: list[signal.Signals],
) -> None:
    monkeypatch.setattr(child, "parent_gets", parent_gets)
    assert run_to_end(["train"]) == STOPPED
    assert child.got == child_gets


def test_without_signals_the_status_is_that_of_the_child(child: type[Child]) -> None:
    assert run_to_end(["train"]) == 7 and child.got == []


def test_a_signal_that_is_ignored_stays_ignored(child: type[Child], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "parent_gets", (HUP,))
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        assert run_to_end(["train"]) == 7 and child.got == []
    finally:
        signal.signal(HUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", [INT, TERM])
def test_a_process_has_time_to_end(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    child = "import os, signal, time; heard = []\n"
    child += "for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, lambda n, frame: heard.append(n))\n"
    child += f"os.kill(os.getppid(), {int(number)})\n"
    child += "while not heard: time.sleep(0.01)\ntime.sleep(1); print('stored', *heard)"
    assert run_to_end([sys.executable, "-c", child]) == STOPPED
    assert capfd.readouterr().out == f"stored {int(number)}\n"
