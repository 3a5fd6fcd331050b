"""Stopping a run without losing what it has computed."""

import signal
import sys
from pathlib import Path
from typing import Any

import lightning as L


class Interrupted(Exception):  # noqa: N818
    """The run stopped because it was asked to; the message says how to go on."""


class GracefulStop(L.Callback):
    """On Ctrl-C or SIGTERM: finish the step, store `DIR/last.ckpt`, stop. A second signal stops at once.

    All ranks stop after the same step. A signal during validation waits for its end; in the test, where nothing is
    left to store, it takes effect at the next batch. List it after weight averaging, so that the step is averaged.

    Args:
        directory: where `last.ckpt` goes.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, in place of Lightning, which would stop at a SIGTERM without storing."""
        self._listen()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen."""
        self._listen()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put the former handlers back."""
        self._stop_listening()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Put the former handlers back."""
        self._stop_listening()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store and stop, if any rank was asked to, at the end of an optimizer step.

        Raises:
            Interrupted: if so.
        """
        within_step = (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch
        if within_step or not trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            return
        path = self.directory / "last.ckpt"
        trainer.save_checkpoint(path)
        raise Interrupted(
            f"interrupted after step {trainer.global_step}, which is stored in {path}: "
            f"the same command with run_id={self.directory.parent.name} resume=auto goes on from there"
        )

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop, if this rank was asked to.

        Raises:
            Interrupted: if so.
        """
        if self.received is not None:
            raise Interrupted("interrupted in the test: training is done and stored, resume=auto goes on with the test")

    def _listen(self) -> None:
        self.received = None
        self._handlers = {number: signal.signal(number, self._note) for number in self.SIGNALS}

    def _stop_listening(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: Any) -> None:
        self.received = signal.Signals(number)
        self._stop_listening()
        print("\nstopping after this step; once more stops at once", file=sys.stderr)
