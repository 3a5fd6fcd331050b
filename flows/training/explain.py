"""Errors as one sentence for people."""

import errno
import re

import torch
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from flows.arguments import did_you_mean
from flows.training.checkpoint import CheckpointError
from flows.training.run_id import how_to_resume

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


def explain(error: BaseException) -> str:
    """Return in one line what is wrong, where, and what to do."""
    text = " ".join(_from_worker(str(error)).split())
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
            complaint = str(error).splitlines()[0]
            inner = complaint.partition("raised while resolving interpolation: ")[2]
            return inner or (f"{error.full_key}: {complaint}" if error.full_key else complaint)
        case torch.OutOfMemoryError() | MemoryError():
            return _out_of_memory(text)
        case RuntimeError() if "can't allocate memory" in text:
            return _out_of_memory(text)
        case RuntimeError() if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            return f"torch.compile failed: install a C++ compiler, or set compile=false ({text.partition('. ')[0]})"
        case RuntimeError() if "gloo" in text or "NCCL" in text:
            return (
                "another rank of this run has died or hangs, its own output or the log of its machine says why: "
                f"start again with {how_to_resume()} ({text.partition('. This')[0]})"
            )
        case RuntimeError() if re.search("DataLoader worker .*(killed by signal|exited unexpectedly)", text):
            return (
                f"a process that loads data died ({text.partition('.')[0]}): if memory is short, make data.num_workers "
                f"smaller; start again with {how_to_resume()}"
            )
        case OSError(errno=int(number), filename=str(file)):
            to_do = WHAT_TO_DO_WITH_FILES.get(number, "check the path")
            return f"{file}: {error.strerror}: {to_do}"
        case OSError(errno=int(number)) if number in WHAT_TO_DO_WITH_FILES:
            return f"{error.strerror}: {WHAT_TO_DO_WITH_FILES[number]}"
        case MisconfigurationException():
            to_do = next((to_do for words, to_do in WHAT_TO_DO_IN_LIGHTNING.items() if words in text), "see trainer.*")
            return f"{text.rstrip('.!')}: {to_do}"
        case CompactHydraException() | CheckpointError() | ValueError() | OSError() | ArithmeticError() | ImportError():
            return text
        case RuntimeError() if type(error) is RuntimeError:
            return text
        case RuntimeError() if type(error).__module__.startswith("submitit"):
            return (
                f"a job of the sweep ended without a word ({str(error).splitlines()[0]}): its log is in .submitit in"
                " the sweep's folder; the other jobs go on, and after them the same command does what is missing"
            )
    return f"{type(error).__name__}: {text} (this may be a fault of the program: HYDRA_FULL_ERROR=1 shows where)"


def _from_worker(text: str) -> str:
    """Return what was wrong in a process that loads data, without the traceback that torch puts around it."""
    inner = re.findall(r"^[\w.]+(?:Error|Exception): (.*)", text, re.MULTILINE)
    return inner[-1] if "in DataLoader worker process" in text and inner else text


def _out_of_memory(text: str) -> str:
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", text, re.IGNORECASE)
    at = f" at {asked[1]} more" if asked else ""
    return (
        f"out of memory{at}: make data.batch_size or data.eval_batch_size smaller "
        "(trainer.accumulate_grad_batches makes up for it), or set model.memory_efficient=true"
    )
