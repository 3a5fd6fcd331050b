"""Training flows with Lightning: steps, averaged weights, pictures, checkpoints, run folders."""

from flows.training.check_config import check_arguments, check_config
from flows.training.checkpoint import CheckpointError, check_resume, find_resume, load_flow, save_flow
from flows.training.checkpoint_io import WholeCheckpointIO
from flows.training.command_line import command_line
from flows.training.device import pick_device, set_tf32
from flows.training.ema import PowerEMA
from flows.training.graceful_stop import GracefulStop
from flows.training.grid import image_grid, save_png, temperature_rows
from flows.training.image_grids import ImageGrids
from flows.training.lit import LitFlow
from flows.training.metric import ImageAverage
from flows.training.metrics_csv import MetricsCSV
from flows.training.progress import Progress
from flows.training.run import RunSummary, new_run_id, read_summary, run_name
from flows.training.scale_decay import decay_scales
from flows.training.schedule import WarmupDecay
from flows.training.throughput import Throughput

__all__ = [
    "CheckpointError",
    "GracefulStop",
    "ImageAverage",
    "ImageGrids",
    "LitFlow",
    "MetricsCSV",
    "PowerEMA",
    "Progress",
    "RunSummary",
    "Throughput",
    "WarmupDecay",
    "WholeCheckpointIO",
    "check_arguments",
    "check_config",
    "check_resume",
    "command_line",
    "decay_scales",
    "find_resume",
    "image_grid",
    "load_flow",
    "new_run_id",
    "pick_device",
    "read_summary",
    "run_name",
    "save_flow",
    "save_png",
    "set_tf32",
    "temperature_rows",
]
