"""How much memory a work needs in addition to the memory that is in use before."""

import resource
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from scripts.benchmark.work import Work


def peak_bytes(work: Work, device: torch.device) -> int:
    """Return the most bytes of tensors that `work` holds at one time, without those that are held before it.

    Use it on a forward and backward pass whose gradients exist already. Then it counts only activations and work space:
    no parameters, no gradients and no optimizer state.
    """
    work()  # so that tensors that stay from the first call are not counted
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    results: Any = profiled.profiler
    changes = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory."""
    words = "can't allocate memory", "bad_alloc", "could not create a memory object"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def fail_rather_than_be_killed() -> None:
    """Let allocations that exceed the free memory fail with an error. Otherwise Linux would kill the process."""
    facts = Path("/proc/meminfo")
    if facts.exists():
        lines = facts.read_text().splitlines()
        (available,) = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = available if hard == resource.RLIM_INFINITY else min(available, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
