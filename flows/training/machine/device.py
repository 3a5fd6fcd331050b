"""Where to compute, with how much memory, and how exactly."""

import os

import torch


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is the CUDA GPU if there is one, else the CPU.

    Raises:
        ValueError: if there is no such device on this machine.
    """
    if name.partition(":")[0] == "mps":
        raise ValueError(f"device {name!r} has no float64, which inverses need: use device=cpu or device=auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not on this machine; use device=cpu or device=auto") from error
    return device


def device_name(device: torch.device) -> str:
    """Return the name of a device for records: "cpu", or the model of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def memory_gib() -> float:
    """Return the GiB of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32, which rounds products on recent NVIDIA GPUs to 10 bits; torch allows it in convolutions.

    Without TF32, a flow inverts to float32 accuracy. With TF32, training is faster, but 1x1 convolutions invert to only
    three digits.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
