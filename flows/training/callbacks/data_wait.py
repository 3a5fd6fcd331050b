"""How long training waits for its next batch."""

import time

from lightning.pytorch.profilers import Profiler


class DataWait(Profiler):
    """Add up the seconds that training waits for data; `Throughput` logs them as part of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since = 0.0

    def start(self, action_name: str) -> None:
        """Start the clock when a batch is requested."""
        if action_name.endswith("train_dataloader_next"):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Stop the clock when the batch is there."""
        if action_name.endswith("train_dataloader_next"):
            self.seconds += time.perf_counter() - self._since
