"""What a resumed run does with other settings, by the table of the README: it obeys them, or refuses."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from flows.training import LitFlow, find_resume, load_flow, peek, read_summary
from flows.training.going_on import starting_point
from flows.training.same_settings import Difference, Effect
from tests.run import CONF, run_training
from tests.same_run import equal, read_metrics

SMALL = [
    "data.batch_size=256",
    "training.schedule.warmup_steps=0",
    "training.schedule.decay_fraction=0",
    "callbacks.grids=null",
    "test=false",
]
"""Five steps an epoch, at one learning rate."""
REALNVP = ["model=realnvp", "model.num_blocks=1"]
OPTIMIZERS = {
    "muon": ["optimizer=muon"],
    "adam": ["optimizer=adam"],
    "adamw": ["optimizer=adamw"],
    "adamax": ["optimizer=adamax"],
    "adam_decayed_scales": ["optimizer=adam_decayed_scales", *REALNVP],
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder of a run of one epoch with an optimizer, made at the first call."""
    made: dict[str, Path] = {}

    def run(optimizer: str = "muon") -> Path:
        if optimizer not in made:
            made[optimizer] = tmp_path_factory.mktemp(optimizer)
            run_training(made[optimizer], *SMALL, *OPTIMIZERS[optimizer], "trainer.max_epochs=1")
        return made[optimizer]

    return run


def last(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)


def rates(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        columns = [name for name in file.readline().strip().split(",") if name.startswith("lr-")]
    return [rate for name in columns for rate in read_metrics(run_dir, name)]


CHANGES = [
    ("muon", {"lr": 1e-5, "betas": [0.8, 0.9]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.8,0.9]"]),
    ("adam", {"lr": 1e-5, "eps": 1e-4}, ["optimizer.lr=1e-5", "+optimizer.eps=1e-4"]),
    ("adam", {"weight_decay": 0.3}, ["+optimizer.weight_decay=0.3"]),
    ("adamw", {"lr": 3e-5, "weight_decay": 0.5}, ["optimizer.lr=3e-5", "optimizer.weight_decay=0.5"]),
    ("adamax", {"lr": 1e-5, "betas": [0.5, 0.6]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.5,0.6]"]),
    ("adam_decayed_scales", {"lr": 2e-5}, ["optimizer.optimizer.lr=2e-5"]),
]


@pytest.mark.parametrize(("optimizer", "asked", "overrides"), CHANGES, ids=lambda value: str(value))
def test_settings_of_the_optimizer_are_obeyed_and_its_moments_stay(
    optimizer: str, asked: dict[str, Any], overrides: list[str], begun: Any, tmp_path: Path
) -> None:
    before = last(begun(optimizer))
    run_dir = tmp_path / optimizer
    resume = f"resume={begun(optimizer)}/checkpoints/last.ckpt"
    run_training(run_dir, *SMALL, *OPTIMIZERS[optimizer], *overrides, "trainer.max_epochs=2", resume)
    after = last(run_dir)
    for group in after["optimizer_states"][0]["param_groups"]:
        for name, value in asked.items():
            assert list(group[name]) == value if isinstance(value, list) else group[name] == value, name
    if "lr" in asked:
        assert set(rates(run_dir)) == {asked["lr"]}
    steps = {float(state["step"]) for state in after["optimizer_states"][0]["state"].values() if state["step"] > 0}
    assert steps == {10.0}
    assert before["global_step"] == 5 and after["global_step"] == 10
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]["max_epochs"] == 2


def content(run_dir: Path) -> dict[Path, bytes]:
    """Return all files of a run but the log, which every command may add to."""
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".log"}


REFUSED = {
    "the optimizer": ["optimizer=adam"],
    "another one with the same moments": ["optimizer=adamw"],
    "what it remembers": ["+optimizer.amsgrad=true"],
    "the batch": ["data.batch_size=128"],
    "gradients of several batches": ["trainer.accumulate_grad_batches=2"],
    "part of an epoch": ["+trainer.limit_train_batches=2"],
    "part of a validation": ["+trainer.limit_val_batches=1"],
    "the split": ["data.num_val=100"],
    "the seed": ["seed=1"],
    "the seed of the order alone": ["data.seed=1"],
    "augmentation": ["data.augment.max_shift=1"],
    "noise of the validation": ["training.eval_seed=1"],
    "draws of the validation": ["training.num_val_draws=2"],
    "no average": ["callbacks.ema=null"],
    "another average": ["callbacks.ema.power=2"],
    "what the best is": ["callbacks.best.monitor=train/bits_per_dim"],
    "counts": ["callbacks.throughput=null"],
    "the model": ["model.hidden_channels=8"],
    "nothing left to train": ["optimizer.lr=1e-5", "trainer.max_epochs=1"],
    "a lower limit": ["trainer.max_epochs=20", "trainer.max_steps=3"],
}
WITHOUT_KEY = {"the optimizer", "another one with the same moments", "what it remembers", "no average", "counts"}
OPTIMIZER_OF = {"another one with the same moments": "adam", "what it remembers": "adam"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_obeyed_is_refused_and_leaves_no_trace(name: str, begun: Any) -> None:
    optimizer = OPTIMIZER_OF.get(name, "muon")
    before = content(begun(optimizer))
    with pytest.raises(Exception, match=r"the same|give a higher limit") as error:
        run_training(
            begun(optimizer), *SMALL, *OPTIMIZERS[optimizer], "trainer.max_epochs=1", *REFUSED[name], "resume=auto"
        )
    key = REFUSED[name][-1].lstrip("+").partition("=")[0]
    assert key.split(".")[-1] in str(error.value) or name in WITHOUT_KEY
    assert content(begun(optimizer)) == before


OBEYED = [
    "trainer.log_every_n_steps=2",
    "trainer.gradient_clip_val=0.01",
    "training.on_nonfinite=skip",
    "training.num_test_draws=3",
    "training.schedule.warmup_steps=20",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=null",
    "trainer.val_check_interval=2",
    "data.eval_batch_size=100",
    "model.memory_efficient=true",
    "test=true",
]


def test_what_can_be_obeyed_is_obeyed_and_named(begun: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", *OBEYED, "resume=auto")
    assert "goes on with other settings: " in caplog.text
    for override in OBEYED:
        assert f"{override.partition('=')[0]} was " in caplog.text
    assert rates(tmp_path / "mine")[-3:] == pytest.approx([8e-3 * (step + 1) / 20 for step in (5, 7, 9)])
    summary = read_summary(tmp_path / "mine/summary.json")
    assert summary["test_draws"] == 3 and summary["test_images"] == 297
    assert summary["first_step"] == 5 and summary["changed_settings"]["trainer.max_epochs"] == [1, 2]
    assert summary["earlier_parts"][0]["val_bits_per_dim"] == read_summary(begun() / "summary.json")["val_bits_per_dim"]


LIMITS = {
    "epochs": (["trainer.max_epochs=1"], ["trainer.max_epochs=3"], 15),
    "steps, within an epoch": (["trainer.max_steps=3"], ["trainer.max_steps=7"], 7),
    "steps, at its end": (["trainer.max_steps=5"], ["trainer.max_steps=8"], 8),
    "images": (
        ["trainer.max_epochs=-1", "callbacks.throughput.max_images=1000"],
        ["callbacks.throughput.max_images=2000"],
        8,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_finished_run_goes_on_to_a_new_limit_like_one_that_had_it_from_the_start(name: str, tmp_path: Path) -> None:
    first, further, steps = LIMITS[name]
    run_training(tmp_path / "short", *SMALL, *first)
    shutil.copytree(tmp_path / "short", tmp_path / "long")
    run_training(tmp_path / "long", *SMALL, *first, *further, "resume=auto")
    run_training(tmp_path / "unbroken", *SMALL, *first, *further)
    long, unbroken = (read_summary(tmp_path / name / "summary.json") for name in ("long", "unbroken"))
    assert long["steps"] == unbroken["steps"] == steps
    assert long["images"] == unbroken["images"] == 256 * steps
    for key in ("state_dict", "current_model_state"):
        assert equal(last(tmp_path / "long")[key], last(tmp_path / "unbroken")[key]), key
    assert rates(tmp_path / "long")[-1] == 8e-3
    assert long["val_bits_per_dim"] == min(read_metrics(tmp_path / "long", "val/bits_per_dim"))


def test_a_run_of_seconds_that_is_given_more_goes_on_and_its_rate_rises_again(tmp_path: Path) -> None:
    timed = [*SMALL, "training.schedule.decay_fraction=1", "trainer.max_epochs=-1"]
    run_training(tmp_path, *timed, "callbacks.throughput.max_seconds=0.3")
    first = read_summary(tmp_path / "summary.json")
    assert rates(tmp_path)[-1] < 8e-3 / 2
    run_training(tmp_path, *timed, "callbacks.throughput.max_seconds=1.2", "resume=auto")
    after = [rate for rate in rates(tmp_path)[first["steps"] :]]
    assert len(after) > 1 and after[0] > 8e-3 / 2 > after[-1]
    summary = read_summary(tmp_path / "summary.json")
    assert summary["images"] / summary["images_per_second"] >= 1.2


@pytest.mark.parametrize("advised", ["optimizer.lr=1e-4", "trainer.gradient_clip_val=0.01"])
def test_a_run_that_diverges_gets_past_the_step_when_the_advice_is_followed(
    advised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: LitFlow) -> None:
        gentle = self.optimizers().param_groups[0]["lr"] < 1e-3 or self.trainer.gradient_clip_val < 0.1
        if self.global_step == 7 and not gentle:
            next(self.flow.parameters()).grad.fill_(float("inf"))

    monkeypatch.setattr(LitFlow, "on_after_backward", explode)
    stored = ["callbacks.last_minutes.train_time_interval.minutes=1e-9", "trainer.max_epochs=2"]
    with pytest.raises(FloatingPointError, match="diverged at step 7") as error:
        run_training(tmp_path, *SMALL, *stored)
    advice = r"the last good checkpoint is (\S+): go on from it by resume=PATH with a lower (\S+) or (\S+),"
    found = re.search(advice, str(error.value))
    assert found is not None and advised.partition("=")[0] in found.groups()
    run_training(tmp_path, *SMALL, *stored, advised, f"resume={found[1]}")
    assert read_summary(tmp_path / "summary.json")["steps"] == 10


def test_the_newest_checkpoint_is_that_of_the_most_steps_whatever_the_time_of_a_file(
    begun: Any, tmp_path: Path
) -> None:
    shutil.copytree(begun(), tmp_path / "copy")
    best, newest = (tmp_path / f"copy/checkpoints/{name}.ckpt" for name in ("best", "last"))
    assert peek(best)["global_step"] == peek(newest)["global_step"]
    os.utime(newest, (0, 0))
    assert find_resume(tmp_path / "copy") == newest
    older = torch.load(newest, weights_only=True)
    torch.save({**older, "global_step": 3}, newest)
    assert find_resume(tmp_path / "copy") == best
    (tmp_path / "copy/checkpoints/deeper").mkdir()
    torch.save({**older, "global_step": 7}, tmp_path / "copy/checkpoints/deeper/other.ckpt")
    assert find_resume(tmp_path / "copy") == tmp_path / "copy/checkpoints/deeper/other.ckpt"


@pytest.mark.parametrize("way", ["copied", "elsewhere", "overwritten"])
def test_the_best_so_far_is_kept_wherever_a_run_goes_on(way: str, begun: Any, tmp_path: Path) -> None:
    best = read_summary(begun() / "summary.json")["val_bits_per_dim"]
    run_dir, resume = tmp_path / "mine", "resume=auto"
    if way == "elsewhere":
        resume = f"resume={begun()}/checkpoints/last.ckpt"
    else:
        shutil.copytree(begun(), run_dir)
    if way == "overwritten":
        path = run_dir / "checkpoints/best.ckpt"
        torch.save({**torch.load(path, weights_only=True), "global_step": 400}, path)
        resume = f"resume={run_dir}/checkpoints/last.ckpt"
    worse = ["optimizer.lr=0.1", "trainer.max_epochs=2"]
    run_training(run_dir, *SMALL, *worse, resume)
    found = read_summary(run_dir / "summary.json")["val_bits_per_dim"]
    flow, provenance = load_flow(run_dir / "best.safetensors", with_provenance=True)
    assert provenance.bits_per_dim == pytest.approx(found, rel=1e-6)
    assert read_metrics(run_dir, "val/bits_per_dim")[-1] > best
    assert found == best if way != "overwritten" else found > best
    stored = load_flow(run_dir / "checkpoints/best.ckpt")
    assert equal(dict(flow.state_dict()), dict(stored.state_dict()))


def test_a_run_is_not_mixed_with_one_from_elsewhere(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "other")
    with pytest.raises(FileExistsError, match="holds a run"):
        run_training(tmp_path / "other", *SMALL, "trainer.max_epochs=2", f"resume={begun()}/checkpoints/last.ckpt")


def test_a_finished_run_is_tested_when_that_is_asked_for_later(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine")
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "test=true", "resume=auto")
    summary = read_summary(tmp_path / "mine/summary.json")
    assert summary["test_images"] == 297 and summary["steps"] == 5
    assert summary["val_bits_per_dim"] == read_summary(begun() / "summary.json")["val_bits_per_dim"]


def test_a_checkpoint_of_before_settings_were_stored_is_compared_with_the_config_beside_it(
    begun: Any, tmp_path: Path
) -> None:
    shutil.copytree(begun(), tmp_path / "old")
    for path in (tmp_path / "old/checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        del checkpoint["settings"], checkpoint["provenance"]
        torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        run_training(tmp_path / "old", *SMALL, "trainer.max_epochs=2", "seed=1", "resume=auto")
    run_training(tmp_path / "old", *SMALL, "trainer.max_epochs=2", "optimizer.lr=1e-4", "resume=auto")
    assert rates(tmp_path / "old")[5:] == [1e-4] * 5


def test_a_finished_run_without_checkpoints_is_not_trained_anew(begun: Any, tmp_path: Path) -> None:
    shutil.copytree(begun(), tmp_path / "mine", ignore=shutil.ignore_patterns("*.ckpt"))
    run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=1", "resume=auto")
    with pytest.raises(FileNotFoundError, match="without a checkpoint to go on from"):
        run_training(tmp_path / "mine", *SMALL, "trainer.max_epochs=2", "resume=auto")


def test_a_requeued_job_goes_on_in_its_own_folder(begun: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.training.going_on.was_requeued", lambda: True)
    elsewhere = str(begun() / "checkpoints/last.ckpt")
    assert starting_point(elsewhere, tmp_path) == Path(elsewhere)
    assert starting_point(elsewhere, begun()) == starting_point(None, begun()) == Path(elsewhere)
    assert starting_point(None, tmp_path) is None


@pytest.mark.parametrize("name", ["''", "."])
def test_a_run_has_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the run a name, or leave run_id out"):
        run_training(tmp_path, f"run_id={name}")


README = (Path(__file__).parent.parent / "README.md").read_text()
TABLE = re.findall(r"^\| [^|]+ \| (`[^|]+=[^|]+`) \| (obeys|refuses)", README, flags=re.MULTILINE)


def test_the_table_of_the_readme_is_the_one_in_the_code() -> None:
    assert len(TABLE) == 14
    for examples, verdict in TABLE:
        for example in re.findall(r"`\+?([^=`]+)=[^`]+`", examples):
            effect = Difference(example, "before", "now").effect
            assert (effect is Effect.REFUSED) == (verdict == "refuses"), example


def test_every_example_of_the_table_is_a_setting() -> None:
    examples = re.findall(r"`(\+?[^=`]+=[^`]+)`", " ".join(examples for examples, _ in TABLE))
    nested = [example for example in examples if example.startswith("optimizer.optimizer.")]
    with initialize_config_dir(CONF, version_base="1.3"):
        compose("train", ["logger=wandb", "run_dir=.", *(example for example in examples if example not in nested)])
        compose("train", ["optimizer=adam_decayed_scales", "run_dir=.", *nested])
