"""Metrics as one CSV file that outlives interruptions."""

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(CSVLogger):
    """Lightning's CSVLogger writing `DIR/metrics.csv`, continued by a resumed run instead of begun anew.

    Args:
        directory: where `metrics.csv` and `hparams.yaml` go.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(save_dir=directory, name="", version="")
        self._earlier_rows: list[dict[str, Any]] = []

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """Return the writer, having kept the rows of an earlier part of the run."""
        if self._experiment is None:
            path = Path(self.log_dir) / "metrics.csv"
            if path.exists():
                with path.open(newline="") as file:
                    self._earlier_rows = list(csv.DictReader(file))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
                self._experiment = ExperimentWriter(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log, and on the first call keep the earlier rows that the resumed run will not log again."""
        writer = self.experiment
        if step is not None and self._earlier_rows:
            writer.metrics = [row for row in self._earlier_rows if int(row["step"]) < step]
            self._earlier_rows = []
        super().log_metrics(metrics, step)
