"""A Weights & Biases run that problems of the network cannot stop."""

import logging
import os
import re
import shlex
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from flows.training.run.id import run_name

log = logging.getLogger(__name__)

PROBE = (1, 0.5, 3)
"""At most seven seconds to learn whether W&B answers: number of retries, seconds before a retry, seconds per try."""
PATIENT = (20, 60, 30)
"""The same values as W&B uses by default, for the time after the start of a run."""


class UnstoppableWandb(WandbLogger):
    """Lightning's WandbLogger for a run that continues offline if W&B is out of reach.

    Before the run starts, the logger checks whether W&B answers and accepts the API key. If not, the run is logged
    offline, and the log says once why, where and how to sync it later. The log says the same if the end of the run does
    not reach W&B. With WANDB_MODE=offline or disabled, nothing is checked.

    A run folder keeps its first W&B id, so that a resumed run continues its own W&B run. A copy of the folder with
    another name gets its own id. Call `finish` at the end.

    Args:
        directory: the run folder; files go to `DIR/wandb`.
        project: the W&B project.
        name: of the run.
        group: the group in which W&B shows the run.
        log_checkpoints: upload the folder of the checkpoints as an artifact when the run ends. (For an offline run,
            `wandb sync` takes the files from this folder.)
        finish_timeout: seconds that the upload may take at the end of the run.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        directory: str,
        project: str,
        name: str,
        group: str | None = None,
        log_checkpoints: bool = False,
        finish_timeout: float = 60.0,
    ) -> None:
        if not project or re.search(r"[/\\#?%:]", project):
            raise ValueError(f"project is a name without any of / \\ # ? % :, got {project!r}")
        if not finish_timeout > 0:
            raise ValueError(f"finish_timeout is more than 0 seconds, got {finish_timeout}")
        super().__init__(name=name, project=project, save_dir=directory, group=group)
        del self._wandb_init["anonymous"]  # W&B complains about it
        self.log_checkpoints = log_checkpoints
        self.finish_timeout = finish_timeout
        self._folders: set[Path] = set()
        self._terminal = _Terminal()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return the W&B run, and start it if needed."""
        if self._experiment is None:
            self._start()
        return self._experiment

    def _start(self) -> None:
        import wandb

        mode = self._open_session()
        online = mode not in ("offline", "dryrun", "disabled")
        self._wandb_init["settings"] = wandb.Settings(
            **_tries(*PATIENT), init_timeout=30, finish_timeout=self.finish_timeout, finish_timeout_raises=True
        )
        if mode != "disabled":
            self._wandb_init.update(id=self._kept_id())
        obstacle = _find_obstacle() if online and wandb.run is None else None
        if obstacle is None:
            try:
                _ = super().experiment
                return
            except Exception as error:
                if not online:
                    raise
                obstacle = _one_line(error)
                wandb.teardown()
                self._open_session()
        self._wandb_init.update(mode="offline", settings=wandb.Settings(silent=True))
        log.warning("W&B logs offline (%s): %s", obstacle, _how_to_sync(super().experiment.sync_dir))

    def _open_session(self) -> str:
        """Make W&B read its settings and send its messages to this logger; return the mode of W&B."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # without a network, it delays the end
        import wandb

        settings = wandb.setup(settings=wandb.Settings(**_tries(*PROBE))).settings
        wandb.termsetup(settings.model_copy(update={"show_warnings": False, "show_errors": False}), self._terminal)
        return settings.mode

    def _kept_id(self) -> str:
        path = Path(self.save_dir or ".") / "wandb" / "run-id"
        kept, _, run = path.read_text().partition(" ") if path.exists() else ("", "", "")
        name = run_name(Path(self.save_dir or ".").absolute())
        if not kept or run not in ("", name):
            kept = uuid4().hex[:8]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{kept} {name}")
        return kept

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember the folder of the checkpoints."""
        if checkpoint_callback.dirpath is not None:
            self._folders.add(Path(checkpoint_callback.dirpath))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """Upload what is left, end the W&B run and this process' session with W&B.

        Args:
            exit_code: 0 if all went well.
        """
        import wandb

        run, self._experiment = self._experiment, None
        if run is None:
            return
        try:
            if self.log_checkpoints:
                run.log_artifact(self._artifact(run.id))
        except (wandb.Error, OSError):
            self._terminal.lost = True
        try:
            run.finish(exit_code)
        except TimeoutError:
            self._terminal.lost = True
        wandb.teardown()
        if self._terminal.lost:
            self._open_session()
            obstacle = _find_obstacle() or f"unfinished after {self.finish_timeout:g} seconds"
            wandb.teardown()
            log.warning("W&B did not get all of the run (%s): %s", obstacle, _how_to_sync(run.sync_dir))

    def _artifact(self, run_id: str) -> Any:
        import wandb

        artifact = wandb.Artifact(f"checkpoints-{run_id}", type="model")
        for path in sorted(path for folder in self._folders for path in folder.glob("*.ckpt")):
            artifact.add_file(str(path), policy="immutable")
        return artifact


class _Terminal:
    """Pass W&B's own warnings on to the log, except warnings that data were lost on the way."""

    def __init__(self) -> None:
        self.lost = False

    def info(self, message: str) -> None:
        """Say nothing: W&B was told to be silent."""

    def warning(self, message: str) -> None:
        """Note the loss, or pass the message on."""
        if re.search("not be synced|Timed out finishing|Failed to verify credentials", message):
            self.lost = True
        else:
            log.warning("%s", _one_line(message))

    error = warning


def _find_obstacle() -> str | None:
    """Return why W&B cannot be logged to now, or None if it can."""
    import wandb

    try:
        return None if wandb.login(prompt=False, verify=True) else "no API key: run `wandb login` or set WANDB_API_KEY"
    except wandb.Error as error:
        return _one_line(error)


def _how_to_sync(folder: str) -> str:
    path = os.path.relpath(folder)
    return f"the run lies in {path}, and `wandb sync {shlex.quote(path)}` uploads it later"


def _one_line(message: object) -> str:
    first, _, cause = str(message).partition("while retrying:")
    return " ".join((cause or first).split()).rstrip(".")


def _tries(retries: int, seconds_between: float, seconds_each: float) -> dict[str, Any]:
    return {
        "x_graphql_retry_max": retries,
        "x_graphql_retry_wait_max_seconds": seconds_between,
        "x_graphql_timeout_seconds": seconds_each,
    }
