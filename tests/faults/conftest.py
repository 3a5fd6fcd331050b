"""Runs to break, and a ledger of what they lost."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command_line import run_script


class Entry(NamedTuple):
    """What came of a fault."""

    fault: str
    tries: int
    steps_lost: str
    exit_code: str
    message: str


ENTRIES: list[Entry] = []

Record = Callable[..., None]


@pytest.fixture
def record() -> Record:
    """Enter a fault that was survived."""

    def enter(fault: str, tries: int, steps_lost: object, exit_code: object, message: str) -> None:
        ENTRIES.append(Entry(fault, tries, str(steps_lost), str(exit_code), " ".join(message.split())))

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ledger."""
    if ENTRIES:
        terminalreporter.section("faults survived")
        terminalreporter.write_line("| fault | tries | steps lost | exit | message |\n|---|---|---|---|---|")
        for entry in ENTRIES:
            terminalreporter.write_line(f"| {' | '.join(map(str, entry))} |")


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of the run with some arguments that nothing befell, made at the first call."""
    made: dict[tuple[str, ...], Path] = {}

    def run(*arguments: str, cwd: Path | None = None) -> Path:
        if arguments not in made:
            folder = cwd or tmp_path_factory.mktemp("unbroken")
            result = run_script(folder, "train.py", *arguments, "run_id=unbroken")
            assert result.exit_code == 0, result.stderr
            made[arguments] = folder / "outputs/unbroken"
        return made[arguments]

    return run
