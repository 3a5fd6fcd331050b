"""Runs the project's scripts in separate processes, without the cost of the imports each time."""

import ctypes
import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from contextlib import chdir
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
IMPORTS = ["data", "flows.training", "hydra", "lightning", "sklearn.datasets", "torch", "tests.support.command_line"]
SECONDS = 120

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(IMPORTS)

CAPSET = {"x86_64": 126, "aarch64": 91}
"""The number of the Linux system call `capset` on each architecture."""


class Result(NamedTuple):
    """How a script ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one sentence of the error with which the script failed."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and self.stderr.rstrip().endswith(lines[0]), self.stderr
        return lines[0].removeprefix("error: ")


class Script:
    """A script that was started. `wait` returns its result."""

    def __init__(
        self,
        folder: Path,
        script: str,
        *arguments: str,
        environment: Mapping[str, str] = {},
        limits: Mapping[int, int] = {},
        as_anyone: bool = False,
    ) -> None:
        self.outputs = folder / "stdout.txt", folder / "stderr.txt"
        self.process: BaseProcess = server.Process(
            target=_run, args=(folder, script, arguments, dict(environment), dict(limits), as_anyone, self.outputs)
        )
        with chdir(ROOT):  # the server looks for these tests where it starts, and other packages are called tests, too
            ensure_running()
        self.process.start()

    def wait(self) -> Result:
        """Wait for the end of the script, and return how it ended."""
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(self.outputs[1].read_text())
        return Result(self.process.exitcode, *(path.read_text() for path in self.outputs))


def run_script(folder: Path, script: str, *arguments: str, **options: object) -> Result:
    """Run a script in a folder until it ends.

    Args:
        folder: the working folder of the script.
        script: path of the script, from the root of the project.
        arguments: arguments of the command line.
        options: `environment` variables; `limits` on resources of the process; `as_anyone`, which takes away root's
            access to all files.
    """
    return Script(folder, script, *arguments, **options).wait()  # type: ignore[arg-type]


def _run(
    folder: Path,
    script: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    limits: dict[int, int],
    as_anyone: bool,
    outputs: tuple[Path, Path],
) -> None:
    import torch

    os.chdir(folder)
    os.environ.update(environment)
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    torch.set_num_threads(1)
    if as_anyone and os.geteuid() == 0:
        _give_up_access()
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    sys.argv = [str(ROOT / script), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _give_up_access() -> None:
    """Drop the capabilities that let root read and write files against their permissions."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    no_capabilities = (ctypes.c_uint32 * 6)()
    failed = ctypes.CDLL(None).syscall(CAPSET[os.uname().machine], header, no_capabilities)
    assert not failed
