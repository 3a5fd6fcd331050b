"""What a run prints at its end."""

import math
from pathlib import Path
from typing import Any

from flows.training.command.overrides import command, from_here, override

FILES = "summary.json", "metrics.csv", "test.csv", "samples/", "reconstructions/", "real.png", "best.safetensors"
"""What a run may leave in its folder for people to look at."""


def report(facts: dict[str, Any], run_dir: Path) -> None:
    """Say how the run ended, where its files are and what to try next."""
    folder = from_here(run_dir)
    there = ", ".join(name for name in FILES if (run_dir / name).exists())
    settings = override("ckpt", f"{folder}/best.safetensors"), override("out", f"{folder}/drawn")
    try_next = command("sample.py", *settings, "'temperature=[0.5,0.7,0.9]'")
    if "test_bits_per_dim" in facts:
        error = facts["test_standard_error"]
        result = (
            f"{_shown(facts['test_bits_per_dim'])} bits/dim{'' if error is None else f' ± {error:.4f}'} on "
            f"{facts['test_images']:,} test images ({facts['test_draws']} draws of {facts['dequantize']} "
            f"noise each, seed {facts['test_seed']})"
        )
    else:
        result = f"{_shown(facts['val_bits_per_dim'])} bits/dim in the best validation, the test set unread"
    print(
        f"\n{result}; {facts['parameters']:,} parameters, {facts['steps']:,} training steps.\n"
        f"Everything is in {folder}: {there}.\nTry next: {try_next}"
    )


def _shown(bits: float | None) -> str:
    """Return a result with few digits; None stands for one that is not finite."""
    return "infinitely many" if bits is None or not math.isfinite(bits) else f"{bits:.4f}"
