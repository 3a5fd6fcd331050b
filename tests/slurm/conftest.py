"""A real SLURM of two nodes on this machine, for as long as the tests of this folder run."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

HERE = Path(__file__).parent


def why_not() -> str | None:
    """Return why no cluster can be started here, if so."""
    if os.geteuid() != 0:
        return "only root can start SLURM's daemons"
    if not (shutil.which("slurmctld") or shutil.which("apt-get")):
        return "SLURM is neither installed nor to be had by apt-get"
    return None


@pytest.fixture(scope="package")
def cluster(pytestconfig: pytest.Config) -> Iterator[None]:
    """Start the cluster, and let `sbatch` and `squeue` find it."""
    reason = why_not()
    if reason and not pytestconfig.getoption("require_slurm"):
        pytest.skip(reason)
    assert not reason, reason
    state = Path(mkdtemp(prefix="slurm-"))  # a short path: it holds a socket
    port = str(random.randrange(20_000, 30_000))
    knobs = {"SLURM_TEST_GPUS": "2", "SLURM_TEST_PORT": port}
    before = dict(os.environ)
    try:
        started = subprocess.run(
            [HERE / "start_cluster.sh", state], env={**os.environ, **knobs}, capture_output=True, text=True, timeout=300
        )
        assert started.returncode == 0, started.stdout + started.stderr
        os.environ["SLURM_CONF"] = str(state / "slurm.conf")
        os.environ["PATH"] = f"{state / 'bin'}:{os.environ['PATH']}"
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        subprocess.run([HERE / "stop_cluster.sh", state], capture_output=True, timeout=60)
        shutil.rmtree(state)
