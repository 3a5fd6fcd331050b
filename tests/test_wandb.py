"""Weights & Biases: what it is told, and that it never stands in a run's way."""

import json
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.command_line import Result, run_script
from tests.test_wrong_use import TINY

RUN = [*TINY, "logger=wandb"]
KEY = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"


def train(folder: Path, *arguments: str, **environment: str) -> Result:
    nobody = {"HOME": str(folder), "NETRC": str(folder / "netrc"), "WANDB_BASE_URL": NOWHERE}
    result = run_script(folder, "train.py", *RUN, *arguments, environment={**nobody, **environment})
    assert result.exit_code == 0, result.stderr
    return result


def runs(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*"))


def warnings(result: Result) -> list[str]:
    """Return the warnings of the project and of wandb."""
    return re.findall(r".*(?:WARNING|ERROR).*", result.stdout + result.stderr)


def test_an_offline_run_holds_results_and_pictures_and_a_resumed_one_keeps_its_id(tmp_path: Path) -> None:
    mine = ["run_id=mine", "trainer.log_every_n_steps=10"]
    result = train(tmp_path, *mine, WANDB_MODE="offline")
    assert not warnings(result)
    run_dir = tmp_path / "outputs/mine"
    (first,) = runs(run_dir)
    images = {path.name.split("_")[0] for path in (first / "files/media/images").iterdir()}
    assert images == {"samples", "reconstructions"}
    logged = (first / f"run-{first.name.rpartition('-')[2]}.wandb").read_bytes()
    for name in ("val/bits_per_dim", "train/images_per_second", "train/gradient_norm", "val/reconstruction_error"):
        assert name.encode() in logged, name

    summary = run_dir / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "status": "interrupted"}))
    time.sleep(1.1)  # wandb names folders by the second
    train(tmp_path, *mine, "trainer.max_epochs=2", "resume=auto", WANDB_MODE="offline")
    assert len({path.name.rpartition("-")[2] for path in runs(run_dir)}) == 1 and len(runs(run_dir)) == 2


@pytest.mark.slow
def test_each_job_of_a_sweep_is_a_run_of_its_own(tmp_path: Path) -> None:
    train(tmp_path, "run_id=mine", "seed=0,1", "-m", WANDB_MODE="offline")
    found = [path for job in range(2) for path in runs(tmp_path / f"multirun/mine/{job}")]
    assert len(found) == len({path.name.rpartition("-")[2] for path in found}) == 2
    for job, path in enumerate(found):
        assert f"mine-{job}".encode() in next(path.glob("*.wandb")).read_bytes()


@pytest.mark.slow
def test_checkpoints_become_artifacts_for_the_asking(tmp_path: Path) -> None:
    result = train(tmp_path, "run_id=mine", "logger.wandb.log_checkpoints=true", WANDB_MODE="offline")
    assert not warnings(result)
    (run,) = runs(tmp_path / "outputs/mine")
    assert b"model-" in next(run.glob("*.wandb")).read_bytes()


def test_a_disabled_run_leaves_nothing(tmp_path: Path) -> None:
    assert not warnings(train(tmp_path, "run_id=mine", WANDB_MODE="disabled"))
    assert not (tmp_path / "outputs/mine/wandb").exists()


class Server(BaseHTTPRequestHandler):
    """Answers every request with one status, or never."""

    status: int | None

    def do_GET(self) -> None:
        if self.status is None:
            time.sleep(30)
            return
        self.send_response(self.status)
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers as the parameter says."""
    if request.param == "refused":
        yield NOWHERE
        return
    handler = type("Handler", (Server,), {"status": None if request.param == "silent" else request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "address",
    [401, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (500, "silent", "refused"))],
    indirect=True,
)
def test_a_server_that_is_of_no_use_leaves_the_run_offline_with_one_warning(address: str, tmp_path: Path) -> None:
    result = train(tmp_path, "run_id=mine", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
    (warning,) = warnings(result)
    assert "W&B stays offline" in warning and "wandb sync" in warning
    assert len(runs(tmp_path / "outputs/mine")) == 1
    for path in (tmp_path / "outputs").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_no_key_leaves_the_run_offline_with_one_warning(tmp_path: Path) -> None:
    (warning,) = warnings(train(tmp_path, "run_id=mine", "callbacks.grids=null"))
    assert "there is no API key" in warning
