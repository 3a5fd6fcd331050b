"""The processes that Lightning starts for the other devices of a machine."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_first_rank() -> None:
    """Let a rank that Lightning started end when the first one dies, not wait for it in a collective (Linux only)."""
    elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ  # they see to it themselves
    if sys.platform == "linux" and "LOCAL_RANK" in os.environ and not elsewhere:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
