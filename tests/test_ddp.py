"""Two ranks equal one: the same images, noise, steps and results, in one run folder."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flows.training import read_summary
from tests.run import CONF, TINY

pytestmark = pytest.mark.slow

TRAIN = str(Path(CONF).parent / "train.py")


def run(folder: Path, *overrides: str) -> Path:
    """Run train.py as a user would, in two minutes at most."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, TRAIN, *TINY, "model.num_steps=2", "trainer.max_steps=20", *overrides]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=120)
    return folder / "outputs"


@pytest.mark.parametrize("memory_efficient", ["false", "true"])
def test_two_ranks_equal_one(tmp_path: Path, memory_efficient: str) -> None:
    run(tmp_path, "run_id=one")
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    outputs = run(tmp_path, "run_id=two", *ddp, f"training.memory_efficient={memory_efficient}")
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

    for key in ("train/bits_per_dim", "train/gradient_norm"):
        logs = []
        for name in ("one", "two"):
            with (outputs / name / "metrics.csv").open() as file:
                logs.append([float(row[key]) for row in csv.DictReader(file) if row[key]])
        assert logs[1] == pytest.approx(logs[0], rel=1e-4), key


def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(tmp_path, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=33")
    assert b"batch_size 33 counts the images of all ranks and cannot be shared equally by 2" in caught.value.stderr


def test_a_sweep_of_parallel_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(tmp_path, "seed=0,1", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "-m")
    assert b"a sweep on one machine runs jobs on one device each: set trainer.devices=1" in caught.value.stderr
