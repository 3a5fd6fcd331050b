"""Names of runs, of sweeps and of the jobs of sweeps."""

import atexit
import os
import secrets
import shlex
import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from flows.training.machine.slurm import is_slurm_job

FOLDERS = ("run_dir=", "hydra.run.dir=", "hydra.sweep.dir=")
"""Beginnings of overrides by which a command itself sets its folder."""


def new_run_id() -> str:
    """Name a run after its SLURM job and step, or its torchrun job (the same on all its ranks), or else the time.

    The time has a random end, because runs may start in the same second.

    Raises:
        ValueError: if the ranks have no name in common.
    """
    environ = os.environ
    if is_slurm_job():
        return f"slurm-{environ['SLURM_JOB_ID']}-{environ.get('SLURM_STEP_ID', 'batch')}"
    if "TORCHELASTIC_RUN_ID" in environ:
        if environ["TORCHELASTIC_RUN_ID"] == "none":
            raise ValueError("torchrun gave its ranks no common name: use torchrun --standalone, or give run_id=NAME")
        return f"torchrun-{environ['TORCHELASTIC_RUN_ID']}"
    if "NODE_RANK" in environ and "LOCAL_RANK" not in environ:
        raise ValueError("the nodes of one run need a common name: give run_id=NAME on each")
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(4)}"


def run_name(run_dir: str | Path) -> str:
    """Name a run by its folder: `NAME` for `outputs/NAME`, `NAME-3` for job 3 of the sweep `multirun/NAME`."""
    parent, name = Path(run_dir).parts[-2:]
    return name if parent == "outputs" else f"{parent}-{name}"


def sweep_name(run_dir: str | Path) -> str | None:
    """Name the sweep that a run is a job of, if any."""
    return Path(run_dir).parent.name if is_sweep() else None


def trial_name(overrides: str) -> str:
    """Name a job of a sweep after its settings, so that a continued sweep gives new jobs new folders."""
    return f"trial-{sha256(overrides.encode()).hexdigest()[:8]}"


def is_sweep() -> bool:
    """Return whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def how_to_resume(run_dir: Path | None = None) -> str:
    """Return the arguments that make the same command continue a run: the name of its folder, and resume=auto.

    A folder that the command itself sets, such as by hydra.run.dir, needs no name. Without `run_dir`, it is the folder
    of this process.
    """
    name = []
    if HydraConfig.initialized():
        given = HydraConfig.get().overrides
        run_dir = run_dir or Path(HydraConfig.get().runtime.output_dir)
        name = [text for text in given.task if text.startswith("run_id=")]
        if any(text.startswith(FOLDERS) for text in (*given.task, *given.hydra)):
            run_dir = None
    if run_dir is not None and not name:
        name = [f"run_id={run_dir.parent.name if is_sweep() else run_dir.name}"]
    return " ".join(map(shlex.quote, [*name, "resume=auto"]))


class NameSweep(Callback):
    """Make the folder of a sweep, and hand its name to the jobs, which may start later and elsewhere."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Add `run_id` to the overrides of the jobs."""
        if config.check:
            return  # the sweep itself is refused, when it asks for its folder
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        overrides = config.hydra.overrides.task
        if not any(override.startswith("run_id=") for override in overrides):
            with read_write(config):
                overrides.append(f"run_id={config.run_id}")


def folder_of(kind: str, run_id: str, check: bool) -> str:
    """Return the folder of a run or a sweep; a check has a temporary one, which is removed at the end.

    Raises:
        ValueError: for a sweep of checks.
    """
    if check is not True:
        return f"{kind}/{run_id}"
    if kind == "multirun":
        raise ValueError("check=true checks one run: leave -m and the swept values out")
    folder = mkdtemp(prefix="check-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


OmegaConf.register_new_resolver("folder_of", folder_of, use_cache=True, replace=True)
OmegaConf.register_new_resolver("new_run_id", new_run_id, use_cache=True, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("trial_name", trial_name, replace=True)
