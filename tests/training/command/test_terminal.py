"""What becomes of a command whose output is closed, not read, or lacks letters: nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.training.command.terminal import Unheard
from tests.support.run import CONF

ROOT = Path(CONF).parent


def test_writing_goes_on_when_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Unheard(writer, "w") as file:
        assert file.write(b"one") == 3 and file.write(b"two") == 3


def test_other_failures_are_told() -> None:
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0) as full:
        Unheard(full.fileno(), "w", closefd=False).write(b"one")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("train.py --help | head -n 3 > /dev/null; exit $(echo ${PIPESTATUS[0]})", {}),
        ("sample.py --help | head -n 0; exit $(echo ${PIPESTATUS[0]})", {}),
        ("sample.py num_samples=1 temperature=0 >&-", {}),
        ("sample.py num_samples=1 temperature=0 >&- 2>&-", {}),
        ("sample.py num_samples=1 temperature=0 out=ünï", {"PYTHONIOENCODING": "ascii"}),
        ("sample.py num_samples=1 out=ünï", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("train.py {tiny}", {"PYTHONIOENCODING": "ascii"}),
        ("train.py {tiny} | head -n 0; exit $(echo ${PIPESTATUS[0]})", {}),
        ("scripts/collect.py outputs | head -n 0; exit $(echo ${PIPESTATUS[0]})", {}),
        ("scripts/collect.py outputs", {"PYTHONIOENCODING": "ascii"}),
    ],
)
def test_it_ends_well(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    tiny = (
        "experiment=digits model.hidden_channels=4 model.num_steps=1 trainer.max_steps=1 callbacks.grids=null run_id=a"
    )
    (tmp_path / "outputs/ünï").mkdir(parents=True)
    (tmp_path / "outputs/ünï/summary.json").write_text(
        '{"status": "completed", "val_bits_per_dim": 1, "test_bits_per_dim": 1}'
    )
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {ROOT}/{command.replace('{tiny}', tiny)}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr.strip() == "", done.stderr
