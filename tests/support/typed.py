"""Runs commands as a user types them, inside a test: through the command line and Hydra, but in the same process."""

import importlib
import os
import sys
from typing import NamedTuple

import pytest
from hydra.core.hydra_config import HydraConfig


class Answer(NamedTuple):
    """The answer of a command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one sentence of the error with which the command failed."""
        assert self.exit_code == 1 and "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and self.stderr.rstrip().endswith(lines[0]), self.stderr
        return lines[0].removeprefix("error: ")


def type_command(capsys: pytest.CaptureFixture[str], script: str, *arguments: str) -> Answer:
    """Run `main` of a script, such as "train" or "scripts.evaluate", with the given arguments."""
    main = importlib.import_module(script).main
    before, environment = sys.argv, dict(os.environ)
    capsys.readouterr()
    sys.argv = [f"{script}.py", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)
        HydraConfig.instance().cfg = None
    return Answer(code, *capsys.readouterr())
