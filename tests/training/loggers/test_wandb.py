"""Runs are logged to W&B where it can be reached, offline where not, and go on whatever happens to the network."""

import json
from pathlib import Path

import pytest

from flows.training import UnstoppableWandb, read_summary
from tests.support.command_line import Result, run_script
from tests.support.wandb_server import wandb_server
from tests.training.command.test_wrong_use import TINY

NOWHERE = "http://127.0.0.1:9"
KEY = "feedfacecafe" * 4
ONE_EPOCH = [*TINY, "logger=wandb", "trainer.log_every_n_steps=1"]


def train(folder: Path, *arguments: str, **environment: str) -> Result:
    """Run train.py with the fake key, away from the user's own W&B settings."""
    home = {"HOME": str(folder), "NETRC": str(folder / "netrc"), "WANDB_CONFIG_DIR": str(folder), "NO_PROXY": "*"}
    result = run_script(
        folder, "train.py", *ONE_EPOCH, *arguments, environment={**home, "WANDB_API_KEY": KEY, **environment}
    )
    assert result.exit_code == 0, result.stderr
    assert not holders_of_the_key(folder)
    return result


def holders_of_the_key(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "netrc"]
    return [path for path in files if KEY.encode() in path.read_bytes()]


def warnings(result: Result) -> list[str]:
    return [line for line in (result.stdout + result.stderr).splitlines() if "WARNING" in line or "ERROR" in line]


def pictures(run: Path) -> set[str]:
    return {path.name.split("_")[0] for path in (run / "files/media/images").iterdir()}


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


@pytest.mark.slow
def test_offline_on_request_asks_nobody_and_warns_of_nothing(tmp_path: Path) -> None:
    with wandb_server() as server:
        result = train(tmp_path, "run_id=mine", WANDB_MODE="offline", WANDB_BASE_URL=server.url)
    assert not server.requests and not warnings(result)
    (run,) = offline_runs(tmp_path / "outputs/mine")
    assert pictures(run) == {"samples", "reconstructions"}


@pytest.mark.slow
def test_disabled_asks_nobody_and_writes_nothing(tmp_path: Path) -> None:
    with wandb_server() as server:
        result = train(tmp_path, "run_id=mine", WANDB_MODE="disabled", WANDB_BASE_URL=server.url)
    assert not server.requests and not warnings(result)
    assert not (tmp_path / "outputs/mine/wandb").exists()


@pytest.mark.slow
def test_online_sends_config_metrics_and_pictures_under_the_names_of_the_run(tmp_path: Path) -> None:
    with wandb_server() as server:
        result = train(tmp_path, "run_id=mine", WANDB_BASE_URL=server.url)
    assert not warnings(result)
    first, *_ = server.inputs("UpsertBucket")
    assert first["displayName"] == "mine" and not first.get("groupName")
    uploaded = {Path(name).name.split("_")[0] for name, _ in server.requests if "/media/" in name}
    assert uploaded == {"samples", "reconstructions"}
    (run,) = (tmp_path / "outputs/mine/wandb").glob("run-*-*")
    summary = json.loads((run / "files/wandb-summary.json").read_text())
    facts = read_summary(tmp_path / "outputs/mine/summary.json")
    assert summary["test/bits_per_dim"] == pytest.approx(facts["test_bits_per_dim"])
    assert summary["trainer/global_step"] == facts["steps"]
    logged = {"train/images_per_second", "train/gradient_norm", "val/reconstruction_error", "val/bits_per_dim"}
    assert logged <= set(summary)
    assert "hidden_channels" in (run / "files/config.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "says"),
    [
        pytest.param(500, "HTTP 500", id="failing"),
        pytest.param(401, "Failed to authenticate", id="wrong key"),
        pytest.param(0, "/graphql", id="silent"),
    ],
)
def test_a_server_that_does_not_help_means_offline_with_one_warning(status: int, says: str, tmp_path: Path) -> None:
    with wandb_server(failing=status) as server:
        result = train(tmp_path, "run_id=mine", WANDB_BASE_URL=server.url)
    check_offline(result, tmp_path, says)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param({"WANDB_BASE_URL": NOWHERE}, "connection refused", id="refused"),
        pytest.param({"WANDB_API_KEY": ""}, "no API key: run `wandb login` or set WANDB_API_KEY", id="no key"),
        pytest.param({"WANDB_API_KEY": "short"}, "API key must have 40", id="no such key"),
    ],
)
def test_no_network_or_key_means_offline_with_one_warning(
    environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    check_offline(train(tmp_path, "run_id=mine", **environment), tmp_path, says)


def check_offline(result: Result, folder: Path, says: str) -> None:
    (warning,) = warnings(result)
    (run,) = offline_runs(folder / "outputs/mine")
    assert says in warning and f"`wandb sync {run.relative_to(folder)}`" in warning
    assert pictures(run) == {"samples", "reconstructions"}


@pytest.mark.slow
def test_a_key_in_netrc_is_used_and_stays_there(tmp_path: Path) -> None:
    with wandb_server() as server:
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1:{server.server_port} login user password {KEY}\n")
        result = train(tmp_path, "run_id=mine", WANDB_BASE_URL=server.url, WANDB_API_KEY="")
    assert not warnings(result) and server.inputs("UpsertBucket")


@pytest.mark.slow
def test_a_run_that_the_server_refuses_is_logged_offline(tmp_path: Path) -> None:
    with wandb_server(last_answer="RunResumeStatus", then=404) as server:
        result = train(tmp_path, "run_id=mine", WANDB_BASE_URL=server.url)
    check_offline(result, tmp_path, "this project is closed")


@pytest.mark.slow
def test_a_network_lost_in_the_middle_is_said_once_at_the_end(tmp_path: Path) -> None:
    with wandb_server(last_answer="file_stream") as server:
        arguments = ["run_id=mine", "logger.wandb.finish_timeout=2", "logger.wandb.log_checkpoints=true"]
        result = train(tmp_path, *arguments, WANDB_BASE_URL=server.url)
    (warning,) = warnings(result)
    (run,) = (tmp_path / "outputs/mine/wandb").glob("run-*-*")
    assert "HTTP 500" in warning and f"`wandb sync {run.relative_to(tmp_path)}`" in warning
    assert read_summary(tmp_path / "outputs/mine/summary.json")["status"] == "completed"


@pytest.mark.slow
def test_a_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    options = ["run_id=mine", "resume=auto", "logger.wandb.log_checkpoints=true"]
    train(tmp_path, *options, WANDB_MODE="offline")
    summary = tmp_path / "outputs/mine/summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "status": "interrupted"}))
    train(tmp_path, *options, "trainer.max_epochs=2", WANDB_MODE="offline")
    first, second = (run.name.rpartition("-")[2] for run in offline_runs(tmp_path / "outputs/mine"))
    assert first == second


@pytest.mark.slow
def test_jobs_of_a_sweep_are_runs_of_one_group(tmp_path: Path) -> None:
    with wandb_server() as server:
        result = train(tmp_path, "run_id=mine", "seed=0,1", "-m", WANDB_BASE_URL=server.url)
    assert not warnings(result)
    starts = server.inputs("UpsertBucket")
    assert {run["groupName"] for run in starts if run.get("groupName")} == {"mine"}
    assert {run["displayName"] for run in starts if run.get("displayName")} == {"mine-0", "mine-1"}
    assert len({run["name"] for run in starts if run.get("displayName")}) == 2


@pytest.mark.parametrize("wrong", [{"project": "a/b"}, {"project": ""}, {"finish_timeout": 0.0}], ids=str)
def test_wrong_arguments_are_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        UnstoppableWandb(**{"directory": ".", "project": "flows", "name": "mine", **wrong})  # type: ignore[arg-type]
