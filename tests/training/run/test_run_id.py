"""How runs are named, alone, in sweeps and on several nodes; and what a run that goes on compares."""

import shutil
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from flows.training import UnstoppableWandb, check_same_settings, is_sweep, new_run_id, run_name, trial_name
from flows.training.run.id import how_to_resume, sweep_name
from tests.support.run import CONF


def test_a_run_is_named_after_what_its_ranks_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert new_run_id().startswith("20")
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ValueError, match="give run_id=NAME on each"):
        new_run_id()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "abc")
    assert new_run_id() == "torchrun-abc"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ValueError, match="torchrun --standalone, or give run_id=NAME"):
        new_run_id()
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_STEP_ID", "3")
    assert new_run_id() == "slurm-12-3"


def test_runs_of_an_interactive_job_and_of_one_second_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert len({new_run_id() for _ in range(100)}) == 100


def test_a_copied_run_gets_a_run_of_wandb_of_its_own(tmp_path: Path) -> None:
    def kept_id(folder: Path) -> str:
        return UnstoppableWandb(directory=str(folder), project="flows", name="any")._kept_id()

    first = kept_id(tmp_path / "outputs/a")
    shutil.copytree(tmp_path / "outputs/a", tmp_path / "outputs/b")
    assert kept_id(tmp_path / "outputs/a") == first
    assert kept_id(tmp_path / "outputs/b") == kept_id(tmp_path / "outputs/b") != first


def test_jobs_of_a_sweep_have_names_of_their_own() -> None:
    assert run_name("/somewhere/outputs/mine") == "mine"
    assert {run_name(f"/somewhere/multirun/mine/{job}") for job in range(2)} == {"mine-0", "mine-1"}


@pytest.fixture
def in_a_sweep() -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("train", ["hydra.mode=MULTIRUN", "hydra.runtime.output_dir=."], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    yield
    HydraConfig.instance().cfg = None


def test_runs_of_a_sweep_stand_together(in_a_sweep: None) -> None:
    assert is_sweep()
    assert sweep_name("/somewhere/multirun/mine/3") == "mine"
    assert how_to_resume(Path("/somewhere/multirun/mine/3")) == "run_id=mine resume=auto"


def test_a_run_alone_has_no_sweep() -> None:
    assert not is_sweep()
    assert sweep_name("/somewhere/outputs/mine") is None
    assert how_to_resume(Path("/somewhere/outputs/mine")) == "run_id=mine resume=auto"


def test_trials_are_named_after_their_settings() -> None:
    assert trial_name("optimizer.lr=0.1") == trial_name("optimizer.lr=0.1") != trial_name("optimizer.lr=0.2")


def settings(run_dir: Path, lr: float) -> dict[str, object]:
    optimizer = {"lr": lr}
    return {"run_dir": str(run_dir), "best": f"{run_dir}/best", "optimizer": optimizer, "training": {"o": optimizer}}


def test_a_run_that_goes_on_with_other_settings_says_which(tmp_path: Path) -> None:
    check_same_settings(settings(tmp_path, 0.1), tmp_path, strict=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings(Path("/elsewhere"), 0.1), "resume": None}))
    assert not check_same_settings(settings(tmp_path, 0.1), tmp_path, strict=True)
    (changed,) = check_same_settings(settings(tmp_path, 0.2), tmp_path, strict=False)
    assert str(changed) == "optimizer.lr was 0.1 and is 0.2"
    with pytest.raises(ValueError, match=r"optimizer.lr was 0.1 and is 0.2\): .* give this one another run_id"):
        check_same_settings(settings(tmp_path, 0.2), tmp_path, strict=True)
