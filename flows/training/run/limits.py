"""Whether a run has already reached a limit."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer

from flows.training.callbacks.throughput import Throughput


def reached_limits(trainer: L.Trainer, checkpoint: dict[str, Any]) -> list[str]:
    """Return the limits of a trainer that a checkpoint has reached, each with what was done, as texts for people."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    found: list[tuple[str, float, float | None]] = [
        ("trainer.max_epochs", epochs, trainer.max_epochs),
        ("trainer.max_steps", checkpoint["global_step"], trainer.max_steps),
    ]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = (checkpoint.get("callbacks") or {}).get(callback.state_key, {})
        if isinstance(callback, Throughput) and state:
            found.append(("max_images", state["images"], callback.max_images))
            found.append(("max_seconds", state["seconds"], callback.max_seconds))
        if isinstance(callback, Timer) and state:
            found.append(("trainer.max_time in seconds", state["time_elapsed"]["train"], callback._duration))
    return [
        f"{name} is {limit:g} and {done:g} are done"
        for name, done, limit in found
        if limit is not None and 0 <= limit <= done
    ]
