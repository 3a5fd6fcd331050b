"""A Hydra script that answers wrong use with one sentence."""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from flows.arguments import did_you_mean
from flows.training.checkpoint import CheckpointError
from flows.training.graceful_stop import Interrupted

SHOW_TRACEBACK = "FLOWS_FULL_ERROR"
"""What the user said by HYDRA_FULL_ERROR, for this process and the ranks it starts."""

WHAT_TO_DO_WITH_FILES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "give another folder, or change its permissions",
    errno.EROFS: "give another folder",
}
WHAT_TO_DO_IN_LIGHTNING = {
    "No supported gpu backend found": "use trainer=cpu, or trainer=gpu, which takes a GPU where there is one",
    "gpu": "use trainer=cpu, or as many trainer.devices as there are",
}
"""What to do about a complaint that contains the words; the first that fits counts."""


def command_line(config_path: str, config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[..., Any]]:
    """Make a function of a config the main of a script, as `hydra.main` does.

    An error is printed as one sentence on standard error, and the exit status is 1, or 130 after Ctrl-C; with
    HYDRA_FULL_ERROR=1 the traceback is shown instead. Called with a config, main calls the function with it.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[..., Any]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # the sweeper wants to know
                return task(cfg)
            with one_sentence():
                return task(cfg)

        hydra_main = hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)(job)

        @functools.wraps(task)
        def main(cfg: DictConfig | None = None) -> Any:
            if cfg is not None:
                return task(cfg)
            os.environ.setdefault(SHOW_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over then, instead of printing them
            with one_sentence():
                return hydra_main()

        return main

    return decorate


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the process at an error, with one sentence about it."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as stop:
        _complain(str(stop) or "interrupted")
        raise SystemExit(130) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's way of handing it on
            _complain("interrupted")
            raise SystemExit(130) from stop
        raise
    except Exception as error:
        if os.environ.get(SHOW_TRACEBACK) == "1":
            raise
        _complain(f"error: {explain(error)}")
        raise SystemExit(1) from error


def _complain(sentence: str) -> None:
    rank = os.environ.get("LOCAL_RANK", "0")
    sys.stderr.write(f"{sentence}\n" if rank == "0" else f"[rank {rank}] {sentence}\n")


def explain(error: BaseException) -> str:
    """Return in one line what is wrong, where, and what to do."""
    text = " ".join(str(error).split())
    match error:
        case MissingConfigException(missing_cfg_file=str(file), options=[*_] as options) if "/" in file:
            group, _, name = file.rpartition("/")
            return f"{group}={name}: there is no such choice{did_you_mean(name, options)}, but {', '.join(options)}"
        case OverrideParseException():
            return f"{error.override!r} is not of the form KEY=VALUE (lists and spaces need quotes: 'KEY=[1,2]')"
        case InstantiationException():
            where = re.search(r"full_key: (\S+)", str(error))
            prefix = f"{where[1]}: " if where else ""
            return prefix + (explain(error.__cause__) if error.__cause__ else text)
        case MissingMandatoryValue():
            return f"{error.full_key} has no value: give {error.full_key}=VALUE"
        case CompactHydraException(__cause__=ConfigAttributeError() | ConfigKeyError() as cause):
            key = str(cause.full_key)
            nearest = did_you_mean(key.rpartition(".")[2], map(str, cause.parent_node or ()))
            return f"{key}: there is no such setting{nearest}; --help lists all"
        case OmegaConfBaseException():
            return f"{error.full_key}: {str(error).splitlines()[0]}"
        case torch.OutOfMemoryError() | MemoryError():
            return _out_of_memory(text)
        case RuntimeError() if "can't allocate memory" in text:
            return _out_of_memory(text)
        case OSError(errno=int(number), filename=str(file)):
            to_do = WHAT_TO_DO_WITH_FILES.get(number, "check the path")
            return f"{file}: {error.strerror}: {to_do}"
        case MisconfigurationException():
            to_do = next((to_do for words, to_do in WHAT_TO_DO_IN_LIGHTNING.items() if words in text), "see trainer.*")
            return f"{text.rstrip('.!')}: {to_do}"
        case CompactHydraException() | CheckpointError() | ValueError() | OSError() | ArithmeticError() | ImportError():
            return text
        case RuntimeError() if type(error) is RuntimeError:
            return text
    return f"{type(error).__name__}: {text} (this may be a fault of the program: HYDRA_FULL_ERROR=1 shows where)"


def _out_of_memory(text: str) -> str:
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", text, re.IGNORECASE)
    at = f" at {asked[1]} more" if asked else ""
    return (
        f"out of memory{at}: make data.batch_size or data.eval_batch_size smaller "
        "(trainer.accumulate_grad_batches makes up for it), or set training.memory_efficient=true"
    )
