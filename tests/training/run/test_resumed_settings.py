"""What a resumed run does with other settings, by the table of docs/training.md: it obeys them, or refuses."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from flows.training import read_summary
from flows.training.run.same_settings import Difference, Effect, differences
from tests.support.run import CONF, run_training
from tests.support.same_run import read_metrics

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


def last(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)


def rates(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        columns = [name for name in file.readline().strip().split(",") if name.startswith("lr-")]
    return [rate for name in columns for rate in read_metrics(run_dir, name)]


CHANGES = [
    ("muon", {"lr": 1e-5, "betas": [0.8, 0.9]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.8,0.9]"]),
    (
        "adam",
        {"lr": 1e-5, "eps": 1e-4, "weight_decay": 0.3},
        ["optimizer.lr=1e-5", "+optimizer.eps=1e-4", "+optimizer.weight_decay=0.3"],
    ),
    ("adamw", {"lr": 3e-5, "weight_decay": 0.5}, ["optimizer.lr=3e-5", "optimizer.weight_decay=0.5"]),
    ("adamax", {"lr": 1e-5, "betas": [0.5, 0.6]}, ["optimizer.lr=1e-5", "+optimizer.betas=[0.5,0.6]"]),
    ("adam_decayed_scales", {"lr": 2e-5}, ["optimizer.lr=2e-5"]),
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
    "a few of the images": ["data.num_train=900"],
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
    with pytest.raises(Exception, match=r"the same|give a higher limit|leave it in place") as error:
        run_training(
            begun(optimizer), *SMALL, *OPTIMIZERS[optimizer], "trainer.max_epochs=1", *REFUSED[name], "resume=auto"
        )
    key = REFUSED[name][-1].lstrip("+").partition("=")[0]
    assert key.split(".")[-1] in str(error.value) or name in WITHOUT_KEY
    assert content(begun(optimizer)) == before


def test_a_group_that_became_a_text_is_compared() -> None:
    before = {"trainer": {"profiler": {"_target_": "a.B", "dirpath": "c"}}, "data": {"source": {"_target_": "data.D"}}}
    now = {"trainer": {"profiler": "simple"}, "data": {"source": "generated"}}
    found = {one.key: one.effect for one in differences(before, now)}
    assert found["trainer.profiler"] == found["trainer.profiler._target_"] == Effect.OBEYED
    assert found["data.source"] == found["data.source._target_"] == Effect.REFUSED
    assert {one.key for one in differences(now, before)} == {*found}


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
    "model.memory_flat=true",
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


NEW = ["label_dropout", "prior_width"]


@pytest.mark.parametrize("told", [[], ["model.prior_width=32"]], ids=["as before", "another value"])
def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(
    begun: Any, tmp_path: Path, told: list[str]
) -> None:
    """Its checkpoints and its config know nothing of the setting."""
    mine = tmp_path / "mine"
    shutil.copytree(begun(), mine)
    for path in mine.glob("checkpoints/*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for node in (checkpoint["flow"], checkpoint["settings"]["model"], checkpoint["settings"]["training"]):
            for name in NEW:
                node.pop(name, None)
        torch.save(checkpoint, path)
    config = yaml.safe_load((mine / "config.yaml").read_text())
    for name in NEW:
        del config["model"][name]
    del config["training"]["label_dropout"]
    (mine / "config.yaml").write_text(yaml.safe_dump(config))
    command = [*SMALL, "trainer.max_epochs=2", *told, "resume=auto"]
    if told:
        with pytest.raises(Exception, match="prior_width is 64 there and 32 here"):
            run_training(mine, *command)
    else:
        run_training(mine, *command)
        assert read_summary(mine / "summary.json")["changed_settings"].keys() == {"trainer.max_epochs"}


PAGE = (Path(__file__).parents[3] / "docs/training.md").read_text()
TABLE = re.findall(r"^\| [^|]+ \| (`[^|]+=[^|]+`) \| (obeys|refuses)", PAGE, flags=re.MULTILINE)


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
