"""Training flows with Lightning: steps, averaged weights, pictures, checkpoints, run folders."""

from flows.training.check_config import check_arguments, check_config
from flows.training.checkpoint import (
    CheckpointError,
    check_resume,
    checkpoints,
    find_resume,
    load_flow,
    peek,
    save_flow,
)
from flows.training.checkpoint_io import WholeCheckpointIO
from flows.training.command_line import command_line
from flows.training.data_wait import DataWait
from flows.training.device import pick_device, set_tf32
from flows.training.ema import PowerEMA
from flows.training.graceful_stop import GracefulStop
from flows.training.grid import image_grid, save_png, temperature_rows
from flows.training.image_grids import ImageGrids
from flows.training.lit import LitFlow
from flows.training.malloc import keep_freed_memory
from flows.training.metric import ImageAverage
from flows.training.metrics_csv import MetricsCSV
from flows.training.muon import Muon
from flows.training.plugins import trainer_plugins
from flows.training.progress import Progress
from flows.training.provenance import Provenance, check_class_names, describe_data, project_version
from flows.training.ranks import end_with_first_rank, is_first_rank
from flows.training.run_folder import Run, find_runs, read_run, record_command
from flows.training.run_id import NameSweep, is_sweep, new_run_id, run_name, trial_name
from flows.training.run_lock import hold
from flows.training.same_settings import check_same_settings
from flows.training.scale_decay import decay_scales
from flows.training.schedule import WarmupDecay
from flows.training.slurm import check_tasks, was_requeued
from flows.training.summary import RunSummary, read_summary
from flows.training.throughput import Throughput
from flows.training.timed_checkpoint import TimedCheckpoint
from flows.training.valid_json import to_json
from flows.training.wandb_logger import UnstoppableWandb

__all__ = [
    "CheckpointError",
    "DataWait",
    "GracefulStop",
    "ImageAverage",
    "ImageGrids",
    "LitFlow",
    "MetricsCSV",
    "Muon",
    "NameSweep",
    "PowerEMA",
    "Progress",
    "Provenance",
    "Run",
    "RunSummary",
    "Throughput",
    "TimedCheckpoint",
    "UnstoppableWandb",
    "WarmupDecay",
    "WholeCheckpointIO",
    "check_arguments",
    "check_class_names",
    "check_config",
    "check_resume",
    "check_same_settings",
    "check_tasks",
    "checkpoints",
    "command_line",
    "decay_scales",
    "describe_data",
    "end_with_first_rank",
    "find_resume",
    "find_runs",
    "hold",
    "image_grid",
    "is_first_rank",
    "is_sweep",
    "keep_freed_memory",
    "load_flow",
    "new_run_id",
    "peek",
    "pick_device",
    "project_version",
    "read_run",
    "read_summary",
    "record_command",
    "run_name",
    "save_flow",
    "save_png",
    "set_tf32",
    "temperature_rows",
    "to_json",
    "trainer_plugins",
    "trial_name",
    "was_requeued",
]
