"""Two ranks equal one: the same images, noise, steps and results, in one run folder."""

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import flows
from data import Digits, ImageData
from flows.training import load_flow, read_summary
from flows.training.communication import bytes_sent
from flows.training.quality.distances import distances
from tests.support.command_line import ROOT
from tests.support.features import Projected
from tests.support.run import TINY
from tests.support.same_run import equal

pytestmark = pytest.mark.ranks

TRAIN = str(ROOT / "train.py")
RUN = [*TINY, "model.num_steps=2", "trainer.max_steps=20"]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]


def start(folder: Path, command: list[str], *overrides: str, **environment: str) -> subprocess.Popen[str]:
    """Start train.py as a user would."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, TRAIN, *RUN, *overrides],
        cwd=folder,
        env={**variables, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(*started: subprocess.Popen[str]) -> str:
    """Wait for the end of processes, two minutes at most; return what they have printed."""
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert not any(process.returncode for process in started), outputs
    return "".join(outputs)


def run(folder: Path, *overrides: str) -> Path:
    """Run train.py to its end."""
    end(start(folder, [sys.executable], *overrides))
    return folder / "outputs"


GIVEN = [
    "model.num_classes=10",
    "model.condition=couplings",
    "data.condition={_target_: data.Downsample, factor: 4}",
    "model.condition_shape=[1,2,2]",
]
"""A flow that reads labels and images in all of its couplings."""
AUTOREGRESSIVE = ["model.top_prior=autoregressive", "model.num_classes=10", "training.label_dropout=0.1"]


@pytest.mark.parametrize(
    ("memory_flat", "settings"),
    [
        ("false", ["optimizer=muon", "seed=7"]),  # rounding grows with the steps: to 2e-5 here, to 7e-5 at other seeds
        ("true", ["optimizer=adam"]),
        ("false", ["optimizer=adam", *GIVEN]),
        ("true", ["optimizer=adam", *GIVEN]),
        ("true", ["optimizer=adam", *AUTOREGRESSIVE]),
    ],
    ids=["muon", "memory-flat", "conditional", "conditional-memory-flat", "autoregressive-memory-flat"],
)
def test_two_ranks_equal_one(tmp_path: Path, memory_flat: str, settings: list[str]) -> None:
    run(tmp_path, "run_id=one", *settings)
    two_ranks = [*DDP, "trainer.devices=2", *settings]
    outputs = run(tmp_path, "run_id=two", *two_ranks, f"model.memory_flat={memory_flat}")
    assert sorted(path.name for path in outputs.iterdir()) == ["one", "two"]

    one, two = (torch.load(outputs / run / "checkpoints/last.ckpt", weights_only=True) for run in ("one", "two"))
    for key in ("state_dict", "current_model_state"):
        for name, value in one[key].items():
            torch.testing.assert_close(two[key][name], value, rtol=1e-4, atol=5e-5, msg=name)

    results = [read_summary(outputs / run / "summary.json") for run in ("one", "two")]
    for result in results:
        assert result["test_images"] == 297 and result["steps"] == 20 and result["images"] == 20 * 32
    for key, tolerance in {"test_bits_per_dim": 1e-6, "val_bits_per_dim": 1e-6, "test_standard_error": 1e-4}.items():
        assert results[1][key] == pytest.approx(results[0][key], rel=tolerance), key

    scores = []
    for name in ("one", "two"):
        with (outputs / name / "test.csv").open() as file:
            scores.append([(row["index"], row["crc32"], float(row["bits_per_dim"])) for row in csv.DictReader(file)])
    assert [row[:2] for row in scores[1]] == [row[:2] for row in scores[0]] and len(scores[1]) == 297
    assert [row[2] for row in scores[1]] == pytest.approx([row[2] for row in scores[0]], rel=1e-4)

    for key in ("train/bits_per_dim", "train/gradient_norm"):
        logs = []
        for name in ("one", "two"):
            with (outputs / name / "metrics.csv").open() as file:
                logs.append([float(row[key]) for row in csv.DictReader(file) if row[key]])
        assert logs[1] == pytest.approx(logs[0], rel=1e-4), key


def test_two_ranks_measure_samples_together(tmp_path: Path) -> None:
    features = "callbacks.quality.features={_target_: tests.support.features.Projected}"
    few = ["callbacks.quality.num_samples=40", "callbacks.quality.batch_size=7"]
    outputs = run(tmp_path, "run_id=two", *DDP, "trainer.devices=2", "callbacks=quality", features, *few, "test=false")
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_val=200)
    data.setup()
    measure, samples = Projected(), load_flow(outputs / "two/best.safetensors").sample(range(40))
    expected = distances(measure(samples), measure(data.val_set[list(range(200))].images)).fd
    assert read_summary(outputs / "two/summary.json")["val_fd"] == pytest.approx(expected, rel=1e-3)


def test_ranks_send_what_the_model_of_communication_says(tmp_path: Path) -> None:
    count = "+callbacks.traffic={_target_: tests.support.callbacks.CountTraffic}"
    outputs = run(tmp_path, "run_id=two", *DDP, "trainer.devices=2", "model.hidden_channels=256", count)
    flow = flows.load(outputs / "two/best.safetensors")
    by_both = 2 * bytes_sent(sum(parameter.numel() for parameter in flow.parameters()), devices=2)
    assert int((tmp_path / "traffic").read_text()) / 10 == pytest.approx(by_both, rel=0.03)


def from_torchrun(folder: Path, *overrides: str) -> str:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return end(start(folder, torchrun, *DDP, "trainer.devices=2", *overrides))


def from_two_shells(folder: Path, *overrides: str) -> str:
    nodes = ["trainer.devices=1", "trainer.num_nodes=2", "run_id=shells"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shells = [
        start(
            folder,
            [sys.executable],
            *DDP,
            *nodes,
            *overrides,
            NODE_RANK=rank,
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in ("0", "1")
    ]
    return end(*shells)


@pytest.mark.parametrize("launch", [from_torchrun, from_two_shells])
def test_ranks_started_in_other_ways_share_one_run(launch: Callable[..., str], tmp_path: Path) -> None:
    save = "+callbacks.states={_target_: tests.support.callbacks.SaveInitialState}"
    printed = launch(tmp_path, save)
    (run_dir,) = (tmp_path / "outputs").iterdir()
    assert printed.count("bits/dim ±") == 1, printed
    assert read_summary(run_dir / "summary.json")["images"] == 20 * 32
    assert len(list((run_dir / "samples").iterdir())) == 1
    with (run_dir / "metrics.csv").open() as file:
        assert [float(row["step"]) for row in csv.DictReader(file) if row["train/bits_per_dim"]] == list(range(20))
    states = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    assert equal(*states), "the ranks have begun with different weights"


def complaint(folder: Path, *overrides: str) -> str:
    """Run train.py with two ranks; return the sentence that it fails with."""
    started = start(folder, [sys.executable], *DDP, "trainer.devices=2", *overrides)
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 1
    return output


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    says = "batch_size 33 counts the images of all ranks and cannot be shared equally by 2"
    assert says in complaint(tmp_path, "data.batch_size=33")


def test_a_sweep_of_parallel_jobs_is_refused(tmp_path: Path) -> None:
    says = "a sweep on one machine runs jobs on one device each: set trainer.devices=1, or send the jobs to SLURM"
    assert says in complaint(tmp_path, "seed=0,1", "-m")


def test_ranks_whose_clocks_differ_validate_at_the_same_steps(tmp_path: Path) -> None:
    by_the_clock = ["trainer.val_check_interval=00:00:00:01", "callbacks.last_minutes.train_time_interval.minutes=0.01"]
    skewed = "+callbacks.clock={_target_: tests.support.callbacks.FastClock}"
    slow = "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.15}"
    outputs = run(tmp_path, "run_id=two", *DDP, "trainer.devices=2", *by_the_clock, skewed, slow)
    with (outputs / "two/metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["val/bits_per_dim"]]
    assert len(steps) > 5 and len(set(steps)) == len(steps) and steps[-1] == 19, "by the faster clock, and at the end"
    summary = read_summary(outputs / "two/summary.json")
    assert (summary["ranks"], summary["nodes"], summary["device"], summary["steps"]) == (2, 1, "cpu", 20)
