"""Metrics as one CSV file that outlives interruptions."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from flows.whole_file import whole_file


class ContinuingWriter(ExperimentWriter):
    """Lightning's CSV writer, which continues the file that it finds instead of deleting it."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self._earlier_rows = self._read()
        self.metrics_keys = list(self._earlier_rows[0]) if self._earlier_rows else []

    def _check_log_dir_exists(self) -> None:
        """Keep the files that are there."""

    def _read(self) -> list[dict[str, Any]]:
        """Return the rows of the file, except a row that a killed run has left half written."""
        if not self.path.exists():
            return []
        whole_lines, _, _ = self.path.read_text().rpartition("\n")
        return [row for row in csv.DictReader(whole_lines.splitlines()) if None not in row.values()]

    def forget_from(self, step: int) -> None:
        """Drop the earlier rows from `step` on."""
        if any(int(row["step"]) >= step for row in self._earlier_rows):
            self._earlier_rows = [row for row in self._earlier_rows if int(row["step"]) < step]
            self._replace(self._earlier_rows)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Log a row; the first row of a resumed run replaces the earlier rows from its step on."""
        if step is not None:
            self.forget_from(step)
        self._earlier_rows = []
        super().log_metrics(metrics_dict, step)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(self._read())

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole file, or keep the old file."""
        with whole_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


class MetricsCSV(CSVLogger):
    """Lightning's CSVLogger writing `DIR/metrics.csv`, continued by a resumed run.

    Args:
        directory: where `metrics.csv` and `hparams.yaml` go.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(save_dir=directory, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ContinuingWriter:
        """Return the writer."""
        if self._experiment is None:
            self._experiment = ContinuingWriter(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]

    @rank_zero_only
    def forget_from(self, step: int) -> None:
        """Drop the rows of an earlier run from `step` on, because a resumed run repeats these steps; 0 drops all."""
        self.experiment.forget_from(step)
