"""What the trainer is told is done, or refused in one sentence before anything is trained."""

import csv
import signal
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import MPSAccelerator

import flows
import train
from data import Digits
from flows.likelihood import draw_log_probs, mean_bits_per_dim
from flows.training import FlowTrainer, LitFlow, Muon, PowerEMA, WarmupDecay, load_flow, read_summary
from flows.training.callbacks import graceful_stop
from flows.training.command.command_line import command_line
from flows.training.command.explain import explain
from tests.support.run import run_training
from tests.support.same_run import read_metrics

QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
SHORT = ["trainer.max_steps=2", "callbacks.grids=null", "test=false"]


@pytest.mark.parametrize(
    "setting",
    [
        {"max_epochs": -5},
        {"max_steps": -2},
        {"min_steps": -1},
        {"min_epochs": -1},
        {"accumulate_grad_batches": 0},
        {"log_every_n_steps": 0},
        {"check_val_every_n_epoch": 0},
        {"check_val_every_n_epoch": -1},
        {"gradient_clip_val": -1},
        {"gradient_clip_val": float("nan")},
        {"val_check_interval": 0},
        {"val_check_interval": 0.0},
        {"val_check_interval": -0.5},
        {"val_check_interval": "00:00:00:00"},
        {"val_check_interval": "1:00"},
        {"max_time": "00:00:00:00"},
        {"max_time": "an hour"},
        {"max_time": {"minutes": -1}},
        {"limit_train_batches": 0},
        {"limit_val_batches": 0},
        {"limit_val_batches": 0.0},
        {"limit_test_batches": 0},
        {"overfit_batches": 1},
        {"fast_dev_run": True},
        {"fast_dev_run": 3},
        {"barebones": True},
        {"enable_checkpointing": False},
        {"num_sanity_val_steps": 2},
        {"reload_dataloaders_every_n_epochs": 1},
        {"use_distributed_sampler": True},
        {"devices": [0]},
        {"devices": -1},
        {"devices": 0},
        {"precision": "16-mixed"},
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(setting))} "):
        FlowTrainer(**{**QUIET, **setting})


@pytest.mark.parametrize(
    "setting",
    [{"gradient_clip_val": value} for value in (None, 0, 0.5, float("inf"))]
    + [{"val_check_interval": "01:00:00:00"}, {"max_time": {"hours": 1}}, {"precision": "bf16-mixed"}],
    ids=str,
)
def test_what_has_a_meaning_is_taken(setting: dict[str, Any]) -> None:
    FlowTrainer(**{**QUIET, **setting})


@pytest.mark.parametrize(
    ("value", "algorithm", "expected"),
    [
        (None, None, [3.0, -4.0]),
        (0, None, [3.0, -4.0]),
        (0, "value", [3.0, -4.0]),
        (1, None, [0.6, -0.8]),
        (1, "norm", [0.6, -0.8]),
        (1, "value", [1.0, -1.0]),
        (float("inf"), "norm", [3.0, -4.0]),
    ],
)
def test_gradients_are_clipped_as_asked(value: float | None, algorithm: str | None, expected: list[float]) -> None:
    lit = digits_flow()
    lit.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    lit._losses.append(torch.zeros(()))
    for parameter in lit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    gradient = max(lit.parameters(), key=torch.numel).grad.view(-1)  # type: ignore[union-attr]
    gradient[:2] = torch.tensor([3.0, -4.0])
    lit.configure_gradient_clipping(None, value, algorithm)  # type: ignore[arg-type]
    torch.testing.assert_close(gradient[:2], torch.tensor(expected))


def digits_flow(**settings: Any) -> LitFlow:
    flow = flows.build("glow", image_shape=(1, 8, 8), num_levels=1, num_steps=1, hidden_channels=4)
    return LitFlow(flow, **{"optimizer": Muon, "schedule": WarmupDecay(), **settings})


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda named: Muon(named, lr=float("inf")),
        lambda named: Muon(named, num_iterations=0),
        lambda named: torch.optim.AdamW([p for _, p in named], weight_decay=float("inf")),
        lambda named: torch.optim.Adam([{"params": [p for _, p in named], "weight_decay": -1.0}]),
    ],
)
def test_settings_of_optimizers_are_in_range(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=r"the optimizer refuses its settings, optimizer\.\*: Invalid"):
        digits_flow(optimizer=optimizer)


def test_a_power_is_a_number() -> None:
    with pytest.raises(ValueError, match="at least 0, got nan"):
        PowerEMA(power=float("nan"))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
@pytest.mark.parametrize("ema", [["callbacks.ema=null"], []], ids=["raw", "averaged"])
def test_precision_below_float32_is_for_the_networks_only(precision: str, ema: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"trainer.precision={precision} would lower: take .*bf16-mixed"):
        run_training(tmp_path, *SHORT, f"trainer.precision={precision}", *ema)


def test_a_flow_in_bfloat16_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LitFlow, "prepare_data", lambda self: self.flow.bfloat16())
    with pytest.raises(ValueError, match=r"which torch\.bfloat16 would lower"):
        run_training(tmp_path, *SHORT)


def test_other_precisions_train_in_other_numbers(tmp_path: Path) -> None:
    found = []
    for precision in ("32-true", "64-true", "bf16-mixed"):
        run_training(tmp_path / precision, *SHORT, f"trainer.precision={precision}", "callbacks.ema=null")
        found += read_metrics(tmp_path / precision, "train/bits_per_dim")[-1:]
    assert len({*found}) == 3 and found == pytest.approx([found[0]] * 3, rel=0.01)


def test_the_test_of_a_run_in_mixed_precision_is_that_of_its_stored_flow(tmp_path: Path) -> None:
    run_training(tmp_path, *SHORT, "trainer.precision=bf16-mixed", "trainer.max_steps=20", "test=true")
    flow, (_, images) = load_flow(tmp_path / "best.safetensors"), Digits().load()
    batch = images[list(range(len(images)))]

    @torch.no_grad()
    def bits() -> float:
        log_probs = draw_log_probs(flow, batch.images, None, batch.index, num_draws=2, seed=0)
        return mean_bits_per_dim(log_probs, flow.num_dims).mean().item()

    tested = pytest.approx(read_summary(tmp_path / "summary.json")["test_bits_per_dim"], abs=1e-6)
    assert bits() == tested
    with torch.autocast("cpu", torch.bfloat16):
        assert bits() != tested


def test_the_reconstruction_error_in_mixed_precision_is_that_of_float32(tmp_path: Path) -> None:
    run_training(tmp_path, *SHORT, "trainer.precision=bf16-mixed", "model.top_prior=autoregressive")
    rows = csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines())
    errors = [float(row["val/reconstruction_error"]) for row in rows if row["val/reconstruction_error"]]
    assert errors and max(errors) < 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "overrides", [["trainer=gpu"], ["trainer=ddp"], ["trainer.accelerator=cuda"], ["trainer.accelerator=mps"]], ids=str
)
def test_a_gpu_that_is_not_there_is_refused(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(Exception) as error:
        run_training(tmp_path, *SHORT, *overrides)
    assert explain(error.value).startswith("trainer: ") and "use trainer=cpu, or trainer=auto" in explain(error.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_takes_what_there_is_and_the_summary_says_which(tmp_path: Path) -> None:
    run_training(tmp_path, *SHORT, "trainer=auto")
    summary = read_summary(tmp_path / "summary.json")
    assert (summary["device"], summary["ranks"], summary["nodes"]) == ("cpu", 1, 1)


@pytest.mark.filterwarnings("ignore:.*GPU available but not used")
def test_apples_gpus_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(MPSAccelerator, "parse_devices", staticmethod(lambda devices: [0]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert FlowTrainer(**{**QUIET, "accelerator": "auto"}).strategy.root_device.type == "cpu"
    for accelerator in ("gpu", "mps"):
        with pytest.raises(ValueError, match="Apple's GPUs lack float64, which the inverses need: use trainer=cpu"):
            FlowTrainer(**{**QUIET, "accelerator": accelerator})


def test_signals_of_unix_are_not_needed_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGUSR1")
    spec = spec_from_file_location("elsewhere", graceful_stop.__file__)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.GracefulStop("checkpoints").WARNING is None


@pytest.mark.parametrize("in_slurm", [False, True])
def test_a_run_in_a_thread_goes_to_its_end(in_slurm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_slurm:
        monkeypatch.setattr(graceful_stop, "is_slurm_job", lambda: True)
    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(run_training(tmp_path, *SHORT, "test=true")))
    thread.start()
    thread.join()
    assert len(results) == 1 and read_summary(tmp_path / "summary.json")["status"] == "completed"


def test_a_run_without_a_logger_has_everything_else(tmp_path: Path) -> None:
    bits = run_training(tmp_path, *SHORT, "~logger")
    assert not (tmp_path / "metrics.csv").exists() and (tmp_path / "best.safetensors").exists()
    assert read_summary(tmp_path / "summary.json")["val_bits_per_dim"] == bits


@pytest.mark.parametrize("group", ["logger", "callbacks"])
def test_a_group_of_objects_is_left_out_by_null(group: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", f"{group}=null", "hydra.output_subdir=null", "hydra.run.dir=."])
    seen: list[Any] = []

    def look(cfg: Any) -> None:
        seen.append(cfg)

    command_line(str(Path(train.__file__).parent / "conf"), "train")(look)()
    assert group not in seen[0]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["callbacks.best=null"], "leave it in place"),
        (["callbacks.best.monitor=train/bits_per_dim"], "by monitor=val/bits_per_dim"),
        (["+callbacks.best.save_top_k=0"], "leave out save_top_k=0"),
        (["+callbacks.best.save_weights_only=true"], "save_weights_only=true"),
        (["+callbacks.best.mode=max"], "mode=max"),
        (["+callbacks.best.save_top_k=2"], "\"callbacks.best.filename='best-{step}'\""),
        (["+trainer.logger=false"], "set logger=null"),
        (["+trainer.callbacks=[]"], "set callbacks=null"),
    ],
    ids=str,
)
def test_the_model_to_test_is_the_best_of_validation(overrides: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        run_training(tmp_path, *SHORT, *overrides)
    assert says in str(error.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["callbacks.best.filename='best-{val/bits_per_dim:.3f}'"],
        ["callbacks.best.dirpath=${run_dir}/elsewhere"],
        ["+callbacks.best.save_top_k=2", "callbacks.best.filename='best-{step}'", "trainer.val_check_interval=1"],
    ],
    ids=str,
)
def test_the_best_checkpoint_is_found_wherever_it_lies(overrides: list[str], tmp_path: Path) -> None:
    bits = run_training(tmp_path, *SHORT, *overrides)
    assert bits == pytest.approx(min(read_metrics(tmp_path, "val/bits_per_dim")))
    stored = flows.training.load_flow(tmp_path / "best.safetensors").state_dict()
    files = [path for path in tmp_path.rglob("*.ckpt") if path.name != "last.ckpt"]
    assert any(
        all(torch.equal(value, stored[name]) for name, value in flows.training.load_flow(path).state_dict().items())
        for path in files
    )


def test_a_run_goes_on_from_its_best_checkpoint_in_a_folder_of_metrics(tmp_path: Path) -> None:
    settings = [*SHORT, "callbacks.best.filename='best-{val/bits_per_dim:.3f}'", "callbacks.last_epoch=null"]
    run_training(tmp_path, *settings)
    (best,) = tmp_path.rglob("*.ckpt")
    assert best.parent != tmp_path / "checkpoints"
    assert flows.training.find_resume(tmp_path) == best
    (tmp_path / "summary.json").unlink()
    with pytest.raises(FileExistsError, match="holds a run"):
        run_training(tmp_path, *settings)
