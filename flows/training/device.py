"""Where to compute."""

import torch


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is the machine's accelerator where there is one, else the CPU.

    Raises:
        ValueError: if there is no such device on this machine.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not on this machine; use device=cpu or device=auto") from error
    return device
