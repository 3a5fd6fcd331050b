"""Trials of an Optuna search that are clearly behind end at a validation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from flows.training.callbacks.quality import Quality
from flows.training.loops import is_last_step
from flows.training.run.id import is_sweep
from flows.training.run.objective import OBJECTIVES, objective
from flows.training.run.pruned import Pruned

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

MARK = "pruned"
"""A trial's attribute in the study, by which a job tells the sweep that it was pruned."""


class Pruning(L.Callback):
    """Report each validation to the Optuna study, and end the trial if the pruner says so. Other runs go on as usual.

    Trials are compared at equal numbers of training steps.

    Args:
        pruner: one of `optuna.pruners`.
        objective: by which the search compares trials.
    """

    def __init__(self, pruner: Any, objective: str) -> None:
        self.pruner = pruner
        self.objective = objective
        self._study: optuna.Study | None = None
        self._trial_id = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Look for the trial of this job in the study."""
        if not (stage == "fit" and trainer.is_global_zero and is_sweep()):
            return
        url = HydraConfig.get().sweeper.get("storage")
        if not isinstance(url, str):
            log.warning("no trial is pruned, as hydra.sweeper.storage is no database that the jobs share")
            return
        import optuna

        name = HydraConfig.get().sweeper.study_name
        study = optuna.load_study(study_name=name, storage=optuna.storages.RDBStorage(url), pruner=self.pruner)
        told = set(HydraConfig.get().overrides.task)
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        mine = [trial for trial in running if {f"{key}={value}" for key, value in trial.params.items()} <= told]
        if mine:
            self._study, self._trial_id = study, mine[-1]._trial_id

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report, and ask the pruner.

        Raises:
            Pruned: if the trial is behind; on all ranks.
        """
        if self.objective != "bits_per_dim" and not was_measured(trainer):
            return
        facts = {key.replace("/", "_"): value.item() for key, value in trainer.callback_metrics.items()}
        if trainer.sanity_checking or is_last_step(trainer) or OBJECTIVES[self.objective] not in facts:
            return
        value = objective(self.objective, facts)
        if trainer.strategy.broadcast(self._is_behind(trainer.global_step, value)):
            raise Pruned(trainer.global_step, value)

    def _is_behind(self, step: int, value: float) -> bool:
        if self._study is None:
            return False
        storage = self._study._storage
        storage.set_trial_intermediate_value(self._trial_id, step, value)
        is_behind = self.pruner.prune(self._study, storage.get_trial(self._trial_id))
        if is_behind:
            storage.set_trial_user_attr(self._trial_id, MARK, True)
        return is_behind


def was_measured(trainer: L.Trainer) -> bool:
    """Return whether this validation measured samples; the metrics of a trainer keep those of an earlier one."""
    steps = [one.measured_step for one in trainer.callbacks if isinstance(one, Quality)]  # type: ignore[attr-defined]
    return trainer.global_step in steps


class ListPruned(Callback):
    """Make Hydra's sweeper list pruned trials as pruned. By itself it knows completed and failed trials only."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Let the studies of this sweep look for the mark of a pruned trial before they store its result."""
        import optuna

        make, url = optuna.create_study, config.hydra.sweeper.storage
        self._make = make

        def create_study(**settings: Any) -> optuna.Study:
            study = make(**settings)
            store = study.tell

            def tell(trial: optuna.Trial, values: Any = None, state: Any = optuna.trial.TrialState.COMPLETE) -> None:
                found = optuna.storages.RDBStorage(url).get_trial(trial._trial_id) if isinstance(url, str) else None
                if found is not None and found.user_attrs.get(MARK):
                    store(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    store(trial, values, state)

            study.tell = tell  # type: ignore[assignment, method-assign]
            return study

        optuna.create_study = create_study  # type: ignore[assignment]

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give Optuna its own function back."""
        import optuna

        optuna.create_study = self._make
