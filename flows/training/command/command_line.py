"""A Hydra script that answers wrong use with one sentence."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import flows.training.machine.slurm  # noqa: F401, registers a resolver of configs
from flows.training.command.explain import explain
from flows.training.command.imports import import_modules
from flows.training.command.interrupted import Interrupted
from flows.training.command.names import as_text
from flows.training.command.overrides import tidy
from flows.training.command.show_help import asks_for_help, help_text
from flows.training.command.terminal import print_whatever_comes
from flows.training.machine.malloc import keep_freed_memory
from flows.training.run.id import is_sweep

SHOW_TRACEBACK = "FLOWS_FULL_ERROR"
"""Variable with the user's value of HYDRA_FULL_ERROR, for this process and the ranks that it starts."""

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Variables in which torchrun, SLURM and Lightning say which rank this process is."""

LEFT_OUT = {f"{group}=null": f"~{group}" for group in ("callbacks", "logger")}
"""How to tell Hydra that a group is left out."""


def command_line(config_path: str, config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[..., Any]]:
    """Make a function of a config the main of a script, as `hydra.main` does.

    An error is printed as one sentence on standard error, and the exit status is 1, or 130 after Ctrl-C. With
    HYDRA_FULL_ERROR=1, the traceback is shown instead. If main is called with a config, it calls the function with this
    config. Before it calls the function, main imports the modules that the config lists as `imports`, and lets the
    process keep freed memory (`keep_freed_memory`). With --help, it prints the docstring of the script, and the
    settings with their comments.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[..., Any]:
        def run(cfg: DictConfig) -> Any:
            keep_freed_memory()
            imports = cfg.imports
            import_modules(OmegaConf.to_container(imports, resolve=True) if OmegaConf.is_config(imports) else imports)
            return task(cfg)

        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            with one_sentence_of_a_job(config_name) if is_sweep() else one_sentence(config_name):
                return run(cfg)

        configs = (Path(task.__code__.co_filename).parent / config_path).resolve()  # also if the script is imported
        hydra_main = hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(job)

        @functools.wraps(task)
        def main(cfg: DictConfig | None = None) -> Any:
            if cfg is not None:
                return run(cfg)
            os.environ.setdefault(SHOW_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
            sys.argv = [LEFT_OUT.get(argument, argument) for argument in sys.argv]
            os.environ["HYDRA_FULL_ERROR"] = "1"  # then Hydra raises its errors instead of printing them
            print_whatever_comes()
            with one_sentence(config_name):
                sys.argv[1:] = tidy([as_text(argument) for argument in sys.argv[1:]])
                if asks_for_help(sys.argv[1:]):
                    print(help_text(task.__globals__["__doc__"], configs, config_name, sys.argv[1:]))
                    return None
                return hydra_main()

        return main

    return decorate


@contextmanager
def one_sentence(command: str) -> Iterator[None]:
    """End the process at an error, with one sentence about it; `command` is the command's name, as for `explain`."""
    try:
        with exit_when_stopped():
            yield
    except Exception as error:
        if os.environ.get(SHOW_TRACEBACK) == "1":
            raise
        _complain(f"error: {explain(error, command)}")
        raise SystemExit(1) from error


@contextmanager
def one_sentence_of_a_job(command: str) -> Iterator[None]:
    """Say what is wrong with a job of a sweep, and pass the error on to the sweep, which has other jobs."""
    try:
        with exit_when_stopped():
            yield
    except Exception as error:
        _complain(f"job {HydraConfig.get().job.num} failed: {explain(error, command)}")
        raise


@contextmanager
def exit_when_stopped() -> Iterator[None]:
    """End the process with status 130 when it was asked to stop."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as stop:
        _complain(str(stop) or "interrupted")
        raise SystemExit(130) from stop
    except SystemExit as stop:
        if stop.code != 130 and isinstance(stop.__context__, KeyboardInterrupt):  # how Lightning passes Ctrl-C on
            _complain("interrupted")
            raise SystemExit(130) from stop
        raise


def _complain(sentence: str) -> None:
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    sys.stderr.write(f"{sentence}\n" if rank == "0" else f"[rank {rank}] {sentence}\n")
