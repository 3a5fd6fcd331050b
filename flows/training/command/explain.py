"""Errors as one sentence for people."""

import errno
import re
import shlex
import sys
import sysconfig
import traceback
from pathlib import Path
from textwrap import shorten

import torch
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from flows.files import CheckpointError
from flows.training.command.explain_config import explain_config
from flows.training.command.overrides import ROOT, from_here
from flows.training.run.id import how_to_resume

WHAT_TO_DO_WITH_FILES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "give another folder, or change its permissions",
    errno.EROFS: "give another folder",
}
WHAT_TO_DO_IN_LIGHTNING = {
    "No supported gpu backend found": "use trainer=cpu, or trainer=auto, which takes a GPU where there is one",
    "can not run on your system": "use trainer=cpu, or trainer=auto, which takes a GPU where there is one",
    "gpu": "use trainer=cpu, or as many trainer.devices as there are",
}
"""What to do about an error of Lightning that contains the words; the first entry that fits counts."""

WHAT_TO_DO_WITHOUT_MEMORY = {
    **dict.fromkeys(("sample", "augment", "edit/make_attribute"), "make batch_size smaller, or give another device"),
    "compress": "make batch_size smaller",
    "quality": "make batch_size or data.eval_batch_size smaller, or give another device",
    **dict.fromkeys(
        ("evaluate", "score", "superres", "edit/nearest"), "make data.eval_batch_size smaller, or give another device"
    ),
    "classify": "make data.batch_size or data.eval_batch_size smaller, or give another device",
    "train": "make data.batch_size or data.eval_batch_size smaller (trainer.accumulate_grad_batches makes up for it), "
    "or, for Glow and RealNVP, set model.memory_flat=true",
}
"""What to do when memory is full, by command, because each command has other settings."""

EXTRA = {"lightning", "matplotlib", "torchmetrics", "torchvision"}
"""Packages that commands import late, so that a command without them fails only here, with an explanation."""

OF_ANOTHER_RANK = r"gloo/transport|Gloo connect|NCCL (error|communicator)|(Work|ProcessGroup)(Gloo|NCCL)"
"""What errors contain that are raised where ranks exchange data."""

LIBRARIES = ("<", *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")))
"""Beginnings of the names of files that belong neither to this project nor to its user."""


def explain(error: BaseException, command: str = "train") -> str:
    """Return in one line what is wrong, where, and what to do.

    Args:
        error: what was raised.
        command: which command raised it: by its name, such as "train" or "sample".
    """
    text = " ".join(_from_worker(str(error)).split())
    match error:
        case InstantiationException():
            where = re.search(r"full_key: (\S+)", str(error))
            prefix = f"{where[1]}: " if where else ""
            return prefix + (explain(error.__cause__, command) if error.__cause__ else text)
        case HydraException() | OmegaConfBaseException() | YAMLError():
            return explain_config(error)
        case torch.OutOfMemoryError() | MemoryError():
            return _out_of_memory(text, command)
        case RuntimeError() if "can't allocate memory" in text:
            return _out_of_memory(text, command)
        case RuntimeError() if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            return _not_compiled(text, command)
        case RuntimeError() if type(error).__name__.startswith("Dist") or re.search(OF_ANOTHER_RANK, text):
            return (
                "another rank of this run has died or hangs, its own output or the log of its machine says why: "
                f"{_again(command)} ({text.partition('. This')[0]})"
            )
        case RuntimeError() if re.search("DataLoader worker .*(killed by signal|exited unexpectedly)", text):
            return (
                f"a process that loads data died ({text.partition('.')[0]}): if memory is short, make data.num_workers "
                f"smaller; start again{f' with {how_to_resume()}' if command == 'train' else ''}"
            )
        case OSError(errno=int(number), filename=str(file)):
            to_do = WHAT_TO_DO_WITH_FILES.get(number, "check the path")
            return f"{file}: {error.strerror}: {to_do}"
        case OSError(errno=int(number)) if number in WHAT_TO_DO_WITH_FILES:
            return f"{error.strerror}: {WHAT_TO_DO_WITH_FILES[number]}"
        case Exception() if type(error).__name__ == "MisconfigurationException":  # Lightning need not be loaded
            to_do = next((to_do for words, to_do in WHAT_TO_DO_IN_LIGHTNING.items() if words in text), "see trainer.*")
            return f"{text.rstrip('.!')}: {to_do}"
        case ValueError() if found := re.search(r"`val_check_interval` \((\d+)\) must be .* batches \((\d+)\)", text):
            return (
                f"trainer.val_check_interval={found[1]} is more than the {found[2]} steps of an epoch: set "
                "trainer.check_val_every_n_epoch=null too, which lets it count on over epochs, or make it smaller"
            )
        case UnicodeDecodeError():
            return f"a file to be read as text is not in UTF-8: store it in UTF-8 ({text})"
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in EXTRA:
            folder, python = shlex.quote(from_here(ROOT)), shlex.quote(sys.executable)
            return f"{text}: in the folder {folder}, run {python} -m pip install --editable '.[train]'"
        case CheckpointError() | ValueError() | OSError() | FloatingPointError() | ImportError():
            return text
        case RuntimeError() if type(error) is RuntimeError:
            return text
        case RuntimeError() if type(error).__module__.startswith("submitit"):
            return (
                f"a job of the sweep ended without a message ({str(error).splitlines()[0]}): its log is in .submitit in"
                " the sweep's folder; the other jobs go on, and after them the same command does what is missing"
            )
    return f"{type(error).__name__}: {text} ({_place(error)}HYDRA_FULL_ERROR=1 shows the traceback)"


def _place(error: BaseException) -> str:
    """Return where an error was raised: the last place that is in no library."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)] or frames
    return f"raised in {from_here(own[-1].filename)}, line {own[-1].lineno}; " if own else ""


def _from_worker(text: str) -> str:
    """Return what was wrong in a process that loads data, without the traceback that torch puts around it."""
    inner = re.findall(r"^[\w.]+(?:Error|Exception): (.*)", text, re.MULTILINE)
    return inner[-1] if "in DataLoader worker process" in text and inner else text


def _again(command: str) -> str:
    return f"start again with {how_to_resume()}" if command == "train" else "then give the same command again"


def _not_compiled(text: str, command: str) -> str:
    reason = text.partition(" Set TORCHDYNAMO_VERBOSE")[0]
    if stored := re.search(r"ImportError: \S*?(/.*?\.so)\b", reason):
        return (
            "a file that torch.compile stored cannot be loaded, probably because a run was killed while it compiled: "
            f"remove the folder {shlex.quote(str(Path(stored[1]).parents[1]))}; {_again(command)} ({reason})"
        )
    return f"torch.compile failed: install a C++ compiler, or set compile=false ({shorten(reason, 300)})"


def _out_of_memory(text: str, command: str) -> str:
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", text, re.IGNORECASE)
    at = f" at {asked[1]} more" if asked else ""
    return f"out of memory{at}: {WHAT_TO_DO_WITHOUT_MEMORY.get(command, 'give fewer or smaller images')}"
