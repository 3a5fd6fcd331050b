"""Weights & Biases: one run for each run folder, on their server where it can be reached, else on the disk."""

import logging
from pathlib import Path
from secrets import token_hex
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)

INIT_SECONDS = 30.0
FINISH_SECONDS = 120.0


class WandbRun(WandbLogger):
    """Lightning's WandbLogger that stays offline, with one warning, where the server cannot be reached.

    Nothing is uploaded then: `wandb sync` does it later. A server that goes away during training delays the end of the
    run by two minutes at most.

    Args:
        directory: of the run; a resumed run goes on in its own W&B run, whose id is kept there.
        project: of W&B.
        name: what the run is called there.
        group: what runs that belong together have in common.
        log_checkpoints: whether to upload the checkpoints as artifacts.
        init: further arguments of `wandb.init`, such as entity, tags and notes.
    """

    def __init__(
        self,
        *,
        directory: str,
        project: str,
        name: str,
        group: str | None = None,
        log_checkpoints: bool = False,
        **init: Any,
    ) -> None:
        super().__init__(name=name, save_dir=directory, project=project, group=group, log_model=log_checkpoints, **init)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return the run, starting it at the first call."""
        if self._experiment is None:
            self._start()
        return super().experiment

    def _start(self) -> None:
        import wandb

        directory = Path(self._wandb_init["dir"])
        directory.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS)
        self._wandb_init.pop("anonymous")  # of which wandb warns
        self._wandb_init.update(id=_run_id(directory), settings=settings)
        if wandb.setup().settings.mode != "online":
            return
        try:
            _log_in()
            self._experiment = wandb.init(**self._wandb_init)
        except wandb.Error as error:
            log.warning(
                "W&B stays offline (%s): upload the run later by wandb sync %s/wandb/offline-run-*",
                " ".join(str(error).split()).rstrip("."),
                directory,
            )
            self._wandb_init["mode"] = "offline"


def _log_in() -> None:
    """Find the key and try it, without asking for one.

    Raises:
        wandb.Error: if there is none, the server rejects it, or the server does not answer.
    """
    import wandb
    from wandb.sdk.lib import wbauth

    host = wandb.setup().settings.base_url
    if wbauth.authenticate_session(host=host, source="train.py", prompt=False, verify=True) is None:
        raise wandb.Error("there is no API key, which wandb login or WANDB_API_KEY gives")


def _run_id(directory: Path) -> str:
    """Return the id that the run folder keeps, a new one for a new run."""
    path = directory / "wandb_id.txt"
    if not path.exists():
        path.write_text(token_hex(4))
    return path.read_text()
