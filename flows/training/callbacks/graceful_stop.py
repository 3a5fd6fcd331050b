"""Stopping a run without losing what it has computed."""

import atexit
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from flows.training.callbacks.timed_checkpoint import may_store, may_store_after_validation
from flows.training.command.interrupted import Interrupted
from flows.training.machine.ranks import Agreement
from flows.training.machine.slurm import is_slurm_job, requeue
from flows.training.run.id import how_to_resume


class GracefulStop(Checkpoint):
    """When asked to stop: finish the step, store `DIR/last.ckpt`, stop. A second signal stops at once.

    Ctrl-C and SIGTERM ask to stop. In a SLURM job, SIGUSR1 asks to stop, too: it is SLURM's warning before a time
    limit. The job is then put back into the queue. (In a SLURM job, a second signal changes nothing.)

    All ranks stop after the same step. With several ranks, this is the step after the one in which the signal came. The
    last step of an epoch is validated first. In the test, where nothing is left to store, a signal takes effect at the
    next batch. Only the main thread can receive signals: in another thread, a run continues to its end.

    List this callback last, so that what it stores includes the state of the other callbacks.

    Args:
        directory: the folder of `last.ckpt`.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    WARNING: signal.Signals | None = getattr(signal, "SIGUSR1", None)  # Windows has no such signal, and no SLURM

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.received: signal.Signals | None = None
        self._agreement = Agreement()
        self._stored: str | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen for SLURM's warning, even while Python shuts down; otherwise it would kill the process."""
        if self.WARNING is not None and is_slurm_job() and _can_listen():
            signal.signal(self.WARNING, self._note)
            atexit.register(signal.signal, self.WARNING, signal.SIG_IGN)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals in place of Lightning, which would stop at a SIGTERM without storing."""
        self._listen()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals."""
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
        """Store at the end of an optimizer step if any rank was asked to stop; the step's metrics are logged later."""
        if may_store(trainer):
            self._store_if_asked(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store if any rank was asked to stop. If each step is validated, there is no other moment."""
        if may_store_after_validation(trainer):
            self._store_if_asked(trainer, pl_module)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop if the previous step was stored.

        Raises:
            Interrupted: if it was stored.
        """
        self._stop_if_stored(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store and stop if any rank was asked to stop; the last step of the epoch was validated before this.

        Raises:
            Interrupted: if any rank was asked to stop.
        """
        self._store_if_asked(trainer, pl_module)
        self._stop_if_stored(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stop if any rank was asked to stop.

        Raises:
            Interrupted: if any rank was asked to stop.
        """
        if self._agreement.ask(self.received is not None, next(pl_module.parameters())):
            self._stop(trainer, "interrupted in the test: training is done and stored")

    def _store_if_asked(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._agreement.ask(self.received is not None, next(pl_module.parameters())):
            path = self.directory / "last.ckpt"
            trainer.save_checkpoint(path)
            self._stored = f"interrupted after step {trainer.global_step}, which is stored in {path}"

    def _stop_if_stored(self, trainer: L.Trainer) -> None:
        if self._stored is not None:
            self._stop(trainer, self._stored)

    def _stop(self, trainer: L.Trainer, what: str) -> None:
        by_hand = f"the same command with {how_to_resume(self.directory.parent)} goes on from there"
        if not trainer.strategy.reduce_boolean_decision(self._was_warned(), all=False):
            raise Interrupted(f"{what}: {by_hand}")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends this signal to all tasks of a job that it requeues
        complaint = None
        if trainer.is_global_zero:
            print(f"{what}: the job goes back into the queue", file=sys.stderr, flush=True)  # before the job ends
            complaint = requeue()
        trainer.strategy.barrier()
        raise Interrupted(f"the job could not be requeued ({complaint}): {by_hand}" if complaint else "requeued")

    def _listen(self) -> None:
        if _can_listen():
            self._handlers = {number: signal.signal(number, self._note) for number in self.SIGNALS}

    def _stop_listening(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _was_warned(self) -> bool:
        return self.received is not None and self.received == self.WARNING

    def _note(self, number: int, frame: Any) -> None:
        if not self._was_warned():
            self.received = signal.Signals(number)
        if is_slurm_job():  # SLURM repeats its signals, and SIGKILL can stop the job at once
            print("\nstopping after this step", file=sys.stderr)
        else:
            self._stop_listening()
            print("\nstopping after this step; a second signal stops at once", file=sys.stderr)


def _can_listen() -> bool:
    """Return whether Python lets this thread listen for signals."""
    return threading.current_thread() is threading.main_thread()
