"""The processes that train one model together."""

import ctypes
import os
import signal
import sys

import torch.distributed as dist
from torch import Tensor

PR_SET_PDEATHSIG = 1


def end_with_first_rank() -> None:
    """Make a rank that Lightning started end when the first rank dies, not wait in a collective (Linux only)."""
    elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ  # these do it themselves
    if sys.platform == "linux" and "LOCAL_RANK" in os.environ and not elsewhere:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def is_first_rank() -> bool:
    """Return whether this process is the first of a run, as far as can be known before a trainer is made."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean of a value over all ranks (the value itself if there is only one rank).

    The mean is not finite if the value of any rank is not finite.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


class Agreement:
    """Whether any rank has asked for something; all ranks learn this in the same step, without waiting.

    With several ranks, `ask` returns what was asked at the call before, because the message is sent in the meantime.
    """

    def __init__(self) -> None:
        self._message: tuple[Tensor, dist.Work] | None = None

    def ask(self, asked: bool, like: Tensor) -> bool:
        """Send what this rank asks for; return whether any rank had asked before.

        Args:
            asked: whether this rank asks; it may differ between ranks.
            like: a tensor on the device for messages.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return asked
        before, self._message = self._message, self._send(like.new_tensor(float(asked)))
        if before is None:
            return False
        total, work = before
        work.wait()
        return bool(total)

    def _send(self, message: Tensor) -> tuple[Tensor, dist.Work]:
        work = dist.all_reduce(message, async_op=True)
        assert work is not None
        return message, work
