"""How long a run will still take, whichever limit ends it."""

import time

import lightning as L

from flows.training.lit import LitFlow


class TimeLeft:
    """Counts from the start of this part of the run; a resumed run does not count what was done before.

    Args:
        trainer: of the run.
        module: what it trains.
    """

    def __init__(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, LitFlow)
        self.trainer, self.module = trainer, module
        self.started, self.done_before = time.monotonic(), self.done()

    def done(self) -> float:
        """Return how much of the run is done, 0 to 1, by the clock of this rank: only the first one asks."""
        return self.module.progress_here(self.trainer.global_step)

    def seconds(self) -> float | None:
        """Return the seconds that are left at the speed so far; None while nothing is known."""
        done = self.done()
        done_now = done - self.done_before
        return None if done_now <= 0 else (time.monotonic() - self.started) * (1 - done) / done_now


def duration(seconds: float) -> str:
    """Return a time in words of one or two units: 45 s, 12 min, 3 h 20 min, 2 days 4 h."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"
