"""What a run folder tells is true of the run in it, whatever commands were tried there."""

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from flows.training import find_runs, load_flow, read_run, read_summary
from flows.training.command.names import as_text
from tests.support.command_line import Script, run_script
from tests.support.run import run_training
from tests.support.same_run import read_metrics
from tests.training.command.test_wrong_use import TINY
from tests.training.run.test_resumed_settings import SMALL, content

QUICK = [*TINY, "callbacks.grids=null", "test=false", "data.batch_size=256"]


def told(run_dir: Path) -> list[str]:
    return yaml.safe_load((run_dir / ".hydra/overrides.yaml").read_text())


def assert_records_agree(run_dir: Path) -> None:
    """Assert that all that a folder tells of its run is the same."""
    summary = json.loads((run_dir / "summary.json").read_text(), parse_constant=pytest.fail)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    last = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
    best = torch.load(run_dir / "checkpoints/best.ckpt", weights_only=True)
    flow, provenance = load_flow(run_dir / "best.safetensors", with_provenance=True)
    assert summary["status"] == "completed"
    assert last["settings"] == config and summary["seed"] == config["seed"]
    (rate,) = {group["initial_lr"] for group in last["optimizer_states"][0]["param_groups"]}
    assert rate == config["optimizer"]["lr"]
    assert summary["steps"] == last["global_step"] and summary["images"] == 256 * summary["steps"]
    assert summary["parameters"] == sum(parameter.numel() for parameter in flow.parameters())
    vals = read_metrics(run_dir, "val/bits_per_dim")
    assert summary["val_bits_per_dim"] == pytest.approx(min(vals), rel=1e-6)
    assert best["provenance"]["bits_per_dim"] == pytest.approx(min(vals), rel=1e-6)
    assert read_metrics(run_dir, "step") == sorted(read_metrics(run_dir, "step"))
    assert provenance.version == summary["version"] and provenance.git_commit == summary["git_commit"]
    assert provenance.noise == summary["dequantize"] == "uniform" and provenance.data.startswith("Digits ")
    if config["test"]:
        figures = summary["test_bits_per_dim"], summary["test_standard_error"], summary["test_images"]
        assert (provenance.bits_per_dim, provenance.standard_error, provenance.num_images) == figures
        assert (provenance.split, provenance.num_draws) == ("test", summary["test_draws"])
        assert read_metrics(run_dir, "test/bits_per_dim") == pytest.approx([summary["test_bits_per_dim"]], rel=1e-6)
    else:
        assert (provenance.split, provenance.num_images, provenance.num_draws) == ("val", 200, 1)
        assert provenance.bits_per_dim == pytest.approx(summary["val_bits_per_dim"], rel=1e-6)
        assert "test_bits_per_dim" not in summary and not read_metrics(run_dir, "test/bits_per_dim")


def test_records_agree_in_a_run_that_is_refused_resumed_with_other_settings_and_extended(tmp_path: Path) -> None:
    begun = [*SMALL, "trainer.max_epochs=2"]
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(tmp_path, *begun, "+callbacks.crash={_target_: tests.support.callbacks.Crash, step: 8}")
    failed = content(tmp_path)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        run_training(tmp_path, *begun, "resume=auto", "seed=1")
    with pytest.raises(FileExistsError, match="holds a run"):
        run_training(tmp_path, *begun)
    assert content(tmp_path) == failed
    run_training(tmp_path, *begun, "resume=auto", "optimizer.lr=1e-3", "trainer.log_every_n_steps=3")
    assert_records_agree(tmp_path)
    assert read_metrics(tmp_path, "lr-Muon")[5:] == [1e-3] * 2, "rows of the part that failed are left"
    run_training(tmp_path, *SMALL, "trainer.max_epochs=3", "resume=auto", "test=true", "optimizer.lr=1e-3")
    assert_records_agree(tmp_path)
    run_training(tmp_path, *SMALL, "trainer.max_epochs=4", "resume=auto", "test=true", "optimizer.lr=1e-3")
    assert_records_agree(tmp_path)
    parts = read_summary(tmp_path / "summary.json")["earlier_parts"]
    assert [part["status"] for part in parts] == ["failed", "completed", "completed"]
    assert parts[1]["changed_settings"]["optimizer.lr"] == [8e-3, 1e-3]


def test_a_run_that_starts_anew_in_a_folder_forgets_the_metrics_of_one_that_stored_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(tmp_path, *SMALL, "+callbacks.crash={_target_: tests.support.callbacks.Crash, step: 4}")
    run_training(tmp_path, *SMALL, "trainer.max_epochs=1", "trainer.log_every_n_steps=3")
    assert_records_agree(tmp_path)
    assert len(read_metrics(tmp_path, "train/bits_per_dim")) == 1


def test_one_test_image_makes_no_invalid_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["+trainer.limit_test_batches=1", "data.eval_batch_size=1", "test=true", "trainer.max_steps=1"]
    run_training(tmp_path, *SMALL, *one, "+trainer.limit_val_batches=2")
    assert_records_agree_on_one_image(tmp_path)
    assert "nan" not in capsys.readouterr().out


def assert_records_agree_on_one_image(run_dir: Path) -> None:
    summary = json.loads((run_dir / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["test_images"] == 1 and summary["test_standard_error"] is None
    _, provenance = load_flow(run_dir / "best.safetensors", with_provenance=True)
    assert provenance.num_images == 1 and provenance.standard_error is None
    assert "nan" not in (run_dir / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_folder_is_described_by_the_command_that_trained_there(tmp_path: Path) -> None:
    assert run_script(tmp_path, "train.py", *QUICK, "run_id=mine", "optimizer.lr=1e-3").exit_code == 0
    run_dir = tmp_path / "outputs/mine"
    before = content(run_dir)
    for other in (["optimizer.lr=3e-3"], ["optimizer.lr=-1", "resume=auto"], ["seed=3", "resume=auto"]):
        assert run_script(tmp_path, "train.py", *QUICK, "run_id=mine", *other).exit_code == 1
        assert content(run_dir) == before
    assert read_run(run_dir, "mine").settings["optimizer.lr"] == 1e-3
    more = ["optimizer.lr=2e-3", "trainer.max_epochs=2", "resume=auto"]
    assert run_script(tmp_path, "train.py", *QUICK, "run_id=mine", *more).exit_code == 0
    assert told(run_dir)[-3:] == more
    assert read_run(run_dir, "mine").settings["optimizer.lr"] == 2e-3


@pytest.mark.slow
def test_jobs_of_a_sweep_are_described_by_the_commands_that_trained_there(tmp_path: Path) -> None:
    sweep = ["-m", *QUICK, "run_id=grid", "resume=auto"]
    assert run_script(tmp_path, "train.py", *sweep, "seed=0,1").exit_code == 0
    before = {job: content(tmp_path / f"multirun/grid/{job}") for job in range(2)}
    assert run_script(tmp_path, "train.py", *sweep, "seed=1,0").exit_code == 1
    assert {job: content(tmp_path / f"multirun/grid/{job}") for job in range(2)} == before
    assert [read_run(tmp_path / f"multirun/grid/{job}", "").settings["seed"] for job in range(2)] == [0, 1]


@pytest.mark.slow
def test_runs_that_start_at_the_same_moment_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / str(seed) for seed in range(4)]
    for folder in folders:
        folder.mkdir()
        (folder / "outputs").symlink_to(tmp_path)
    started = [Script(folder, "train.py", *QUICK, f"seed={seed}") for seed, folder in enumerate(folders)]
    for script in started:
        assert script.wait().exit_code == 0
    runs = [path.parent for path in tmp_path.glob("20*/summary.json")]
    assert sorted(read_summary(run / "summary.json")["seed"] for run in runs) == [0, 1, 2, 3]
    for run in runs:
        assert f"seed={read_summary(run / 'summary.json')['seed']}" in told(run)


def test_files_of_wandb_are_no_runs(tmp_path: Path) -> None:
    for run in ("mine", "wandb"):
        (tmp_path / run / "wandb/run-1-abc/files").mkdir(parents=True)
        (tmp_path / run / "wandb/run-1-abc/files/config.yaml").write_text("lr: {value: 1}")
        (tmp_path / run / "summary.json").write_text('{"status": "completed"}')
    assert [run.name for run in find_runs(tmp_path)] == ["mine", "wandb"]


@pytest.mark.parametrize(
    ("argument", "taken"),
    [
        ("run_id=2024_11_25", "run_id='2024_11_25'"),
        ("+run_id=1e3", "+run_id='1e3'"),
        ("ckpt=true", "ckpt='true'"),
        ("run_id=null", "run_id='null'"),
        ("out=-1.50", "out='-1.50'"),
        ("stream=2024_11_25", "stream='2024_11_25'"),
        ("extra=3", "extra='3'"),
        ("background=1e3", "background='1e3'"),
        ("data.source.root=2019", "data.source.root='2019'"),
        ("hydra.run.dir=1_0", "hydra.run.dir='1_0'"),
        ("against.source.root=2024_11_25", "against.source.root='2024_11_25'"),
        *(
            (same, same)
            for same in (
                "run_id=007",
                "run_id='12'",
                "resume=null",
                "images=false",
                "extra=null",
                "optimizer.lr=1e3",
                "run_id=1,2",
                "-m",
            )
        ),
    ],
)
def test_a_name_is_text_whatever_it_looks_like(argument: str, taken: str) -> None:
    assert as_text(argument) == taken


@pytest.mark.slow
def test_a_run_is_found_by_a_name_that_looks_like_a_number(tmp_path: Path) -> None:
    command = [*QUICK, "run_id=2024_11_25", "trainer.max_steps=1", "resume=auto"]
    for _ in range(2):
        result = run_script(tmp_path, "train.py", *command)
        assert result.exit_code == 0, result.stderr
    config = yaml.safe_load((tmp_path / "outputs/2024_11_25/config.yaml").read_text())
    assert config["run_id"] == "2024_11_25"


ASK = "+callbacks.ask={_target_: tests.support.callbacks.Signal, step: 3, number: 15}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "named",
    [["run_id=exp/a"], [], ["hydra.run.dir=else/where"], ["run_id='my run'"], ["run_id=exp/grid", "seed=0", "-m"]],
    ids=str,
)
def test_the_advice_of_an_interrupted_run_goes_on_with_it(named: list[str], tmp_path: Path) -> None:
    stopped = run_script(tmp_path, "train.py", *QUICK, ASK, *named)
    assert stopped.exit_code == 130
    advice = stopped.stderr.partition("the same command with ")[2].partition(" goes on from there")[0]
    assert run_script(tmp_path, "train.py", *QUICK, ASK, *shlex.split(advice), *named).exit_code == 0
    (summary,) = map(read_summary, tmp_path.rglob("summary.json"))
    assert summary["status"] == "completed" and summary["first_step"] == 3
