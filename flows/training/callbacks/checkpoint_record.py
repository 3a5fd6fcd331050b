"""What a checkpoint says about its run."""

from dataclasses import replace
from typing import Any

import lightning as L

from flows.provenance import PROVENANCE_KEY, Provenance, check_class_names
from flows.training.lit import LitFlow
from flows.training.loggers.metrics_csv import MetricsCSV
from flows.training.optimizers.schedule import Scheduled
from flows.training.run.best_so_far import keep_best
from flows.training.run.same_settings import Effect, differences

SETTINGS_KEY = "settings"
"""The key of the run's settings in a checkpoint."""


class CheckpointRecord(L.Callback):
    """Store settings and provenance in each checkpoint; make a resumed run obey the settings of its own command.

    List this callback first.

    Args:
        settings: the whole config, as plain data.
        provenance: what is known about the flow when the run starts.
    """

    def __init__(self, settings: dict[str, Any], provenance: Provenance) -> None:
        self.settings = settings
        self.provenance = provenance
        self._trains_otherwise = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store settings and provenance."""
        assert isinstance(pl_module, LitFlow)
        provenance = self.with_class_names(trainer)
        if pl_module.validation is not None and pl_module.validation[0] == trainer.global_step:
            provenance = replace(provenance, **pl_module.result("val"))
        checkpoint[SETTINGS_KEY] = self.settings
        checkpoint[PROVENANCE_KEY] = provenance.as_dict()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the best model so far, and note whether the command asks for other training steps than before.

        Raises:
            ValueError: if the classes of a class-conditional flow differ from the classes in the checkpoint.
        """
        before = checkpoint.get(SETTINGS_KEY)
        changed = differences(before, self.settings) if before else None
        self._trains_otherwise = changed is None or any(one.effect is Effect.TRAINING for one in changed)
        known, now = (checkpoint.get(PROVENANCE_KEY) or {}).get("class_names"), self.with_class_names(trainer)
        assert isinstance(pl_module, LitFlow)
        if pl_module.flow.num_classes is not None:
            check_class_names(known, now.class_names)
        keep_best(trainer, checkpoint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the learning rate that the command asks for, and drop metrics of steps that are repeated."""
        if self._trains_otherwise:
            for config in trainer.lr_scheduler_configs:
                assert isinstance(config.scheduler, Scheduled)
                config.scheduler.set_rates()
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.forget_from(trainer.global_step)

    def with_class_names(self, trainer: L.Trainer) -> Provenance:
        """Return the provenance with the classes of the data, once the data are loaded."""
        names = trainer.datamodule.class_names  # type: ignore[attr-defined]
        return replace(self.provenance, class_names=None if names is None else list(names))
