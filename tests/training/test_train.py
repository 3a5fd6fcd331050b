"""Training end to end: what a run leaves behind, that it learns, and that a resumed run equals an unbroken one."""

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from data import Digits, ImageData
from flows.likelihood import draw_log_probs, mean_bits_per_dim
from flows.training import PowerEMA, find_resume, image_grid, load_flow, read_summary, temperature_rows
from tests.support.run import run_training
from tests.support.same_run import assert_same_run, read_metrics


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "trainer.max_epochs=2")
    return folder


@pytest.fixture(scope="module")
def data() -> ImageData:
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_classes=10, num_val=200)
    data.setup()
    return data


def test_a_run_leaves_everything_in_its_folder(run_dir: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "best.safetensors",
        "real.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (run_dir / name).stat().st_size > 0, name
    assert len(list((run_dir / "samples").glob("step-*.png"))) == 2
    assert len(list((run_dir / "reconstructions").glob("step-*.png"))) == 2


def test_the_summary_states_the_result_and_how_it_was_made(run_dir: Path) -> None:
    summary = read_summary(run_dir / "summary.json")
    assert summary["status"] == "completed"
    assert summary["steps"] == 2 * (1300 // 32)
    assert summary["images"] == 32 * summary["steps"]
    assert summary["test_images"] == 297
    for key in ("test_bits_per_dim", "val_bits_per_dim", "test_standard_error", "images_per_second", "wall_seconds"):
        assert summary[key] > 0, key
    for key in ("parameters", "seed", "test_draws", "test_seed", "torch", "lightning", "python", "git_commit"):
        assert key in summary


def test_the_loss_falls(run_dir: Path) -> None:
    rows = read_metrics(run_dir, "train/bits_per_dim")
    assert rows[-1] < rows[0] - 0.3


@torch.no_grad()
def test_the_weights_tested_are_the_ones_stored(run_dir: Path, data: ImageData) -> None:
    shared = load_flow(run_dir / "best.safetensors")
    best = load_flow(run_dir / "checkpoints/best.ckpt")
    for (name, one), other in zip(shared.state_dict().items(), best.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    images, _, index, _ = data.test_set[list(range(len(data.test_set)))]
    bits = mean_bits_per_dim(draw_log_probs(shared, images, None, index, num_draws=2, seed=0), shared.num_dims)
    summary = read_summary(run_dir / "summary.json")
    assert summary["test_bits_per_dim"] == pytest.approx(bits.double().mean().item(), rel=1e-6)
    assert summary["test_standard_error"] == pytest.approx(bits.double().std().item() / 297**0.5, rel=1e-4)


def test_the_weights_drawn_and_validated_are_the_averaged_ones_stored(run_dir: Path, data: ImageData) -> None:
    last = load_flow(run_dir / "checkpoints/last.ckpt")
    drawn = temperature_rows(last, range(8), [0.5, 0.7, 0.85, 1.0])
    newest = max((run_dir / "samples").glob("step-*.png"))
    assert to_tensor(newest).equal(image_grid(drawn, 8))

    images, _, index, _ = data.val_set[list(range(200))]
    with torch.no_grad():
        bits = mean_bits_per_dim(draw_log_probs(last, images, None, index, num_draws=1, seed=0), last.num_dims)
    assert read_metrics(run_dir, "val/bits_per_dim")[-1] == pytest.approx(bits.mean().item(), rel=1e-6)

    raw = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["current_model_state"]
    assert not all(torch.equal(raw[f"flow.{name}"], value) for name, value in last.state_dict().items())


def to_tensor(path: Path) -> torch.Tensor:
    return pil_to_tensor(Image.open(path))


def test_reconstruction_is_exact_and_its_error_logged(run_dir: Path) -> None:
    errors = read_metrics(run_dir, "val/reconstruction_error")
    assert len(errors) == 2 and 0 < max(errors) < 1e-4
    picture = to_tensor(max((run_dir / "reconstructions").glob("step-*.png")))
    border, side = 2 * 6, 8 * 6
    real, reconstructed = (picture[:, top : top + side] for top in (border, 2 * border + side))
    assert torch.equal(real, reconstructed)


def test_a_finished_run_is_not_run_again(run_dir: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    run_training(run_dir, "trainer.max_epochs=2", "resume=auto")
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


EVERY_STEP = [
    "data.batch_size=256",
    "trainer.max_epochs=3",
    "callbacks.last_minutes=null",
    "callbacks.last_epoch=null",
    "+callbacks.last_steps={_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: '${run_dir}/checkpoints', "
    "filename: last, every_n_train_steps: 1, enable_version_counter: false}",
]
"""Five steps an epoch, each of them stored."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_training(folder, *EVERY_STEP)
    return folder


@pytest.mark.parametrize("step", [2, 4, 5, 6, 7, 11, 12])
def test_resuming_equals_not_stopping_bit_for_bit(step: int, unbroken: Path, tmp_path: Path) -> None:
    """Steps 5 and 10 end epochs: the checkpoint that is resumed was stored in mid-epoch, at its end or just after."""
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(
            tmp_path, *EVERY_STEP, f"+callbacks.crash={{_target_: tests.support.callbacks.Crash, step: {step}}}"
        )
    failed = read_summary(tmp_path / "summary.json")
    assert failed["status"] == "failed" and "the machine failed" in failed["error"]

    run_training(tmp_path, *EVERY_STEP, "resume=auto")

    assert_same_run(unbroken, tmp_path)
    assert read_summary(tmp_path / "summary.json")["steps"] == 15


SHIPPED = ["data.batch_size=256", "trainer.max_epochs=3", "trainer.log_every_n_steps=4"]
"""The checkpoints of the default callbacks: at the end of each epoch, of five steps, and the best."""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    run_training(folder, *SHIPPED)
    return folder


@pytest.mark.parametrize("lost", [None, "last"])
def test_resuming_from_the_shipped_checkpoints_equals_not_stopping(
    lost: str | None, shipped: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(tmp_path, *SHIPPED, "+callbacks.crash={_target_: tests.support.callbacks.Crash, step: 8}")
    if lost:
        (tmp_path / f"checkpoints/{lost}.ckpt").unlink()
    run_training(tmp_path, *SHIPPED, "resume=auto")
    assert_same_run(shipped, tmp_path)
    assert read_summary(tmp_path / "summary.json")["images"] == 15 * 256


OFTEN = [*SHIPPED, "callbacks.last_minutes.train_time_interval.minutes=1e-9", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def stored_often(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored-often")
    run_training(folder, *OFTEN)
    return folder


@pytest.mark.parametrize("step", [5, 10, 15])
def test_a_run_that_fails_in_a_validation_validates_when_it_goes_on(
    step: int, stored_often: Path, tmp_path: Path
) -> None:
    crash = f"+callbacks.crash={{_target_: tests.support.callbacks.CrashInValidation, step: {step}}}"
    with pytest.raises(RuntimeError, match="the machine failed"):
        run_training(tmp_path, *OFTEN, crash)
    run_training(tmp_path, *OFTEN, "resume=auto")
    assert_same_run(stored_often, tmp_path)


def test_a_run_is_not_mixed_with_another(unbroken: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a run: go on with it by resume=auto, or give another run_id"):
        run_training(unbroken, *EVERY_STEP)


def test_a_conditional_flow_and_its_data_agree_on_the_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.num_classes is 7, but data.num_classes is 10"):
        run_training(tmp_path, "model.num_classes=7")


def test_resume_takes_a_path(unbroken: Path, tmp_path: Path) -> None:
    run_training(tmp_path, *EVERY_STEP, "trainer.max_epochs=4", f"resume={unbroken}/checkpoints/last.ckpt")
    assert read_summary(tmp_path / "summary.json")["steps"] == 20


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_training(tmp_path, *EVERY_STEP, "trainer.max_epochs=1")
    last = tmp_path / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert find_resume(tmp_path) == tmp_path / "checkpoints/best.ckpt"
    assert str(last) in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adam"],
        ["optimizer=adamw"],
        ["optimizer=adamax"],
        ["model=realnvp", "model.num_blocks=1"],
        ["model.num_classes=10"],
        ["model.top_prior=autoregressive"],
        ["model.num_bits=5"],
        ["logger=tensorboard"],
        ["callbacks.ema=null"],
        ["trainer=auto"],
        ["trainer.accumulate_grad_batches=2"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_choices_train_and_test(overrides: list[str], tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_steps=3", *overrides)
    assert read_summary(tmp_path / "summary.json")["status"] == "completed"


def test_max_steps_in_mid_epoch_still_validates(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_steps=3", "training.schedule.decay_fraction=0")
    assert len(read_metrics(tmp_path, "val/bits_per_dim")) == 1
    assert read_summary(tmp_path / "summary.json")["steps"] == 3


def test_a_time_limit_ends_with_a_learning_rate_near_zero(tmp_path: Path) -> None:
    run_training(tmp_path, "trainer.max_time=00:00:00:02", "trainer.max_epochs=-1", "training.schedule.warmup_steps=0")
    rates = read_metrics(tmp_path, "lr-Muon")
    assert rates[0] == pytest.approx(8e-3)
    assert rates[-1] < 0.2 * rates[0]


def test_weight_averaging_leaves_buffers_alone_and_follows_the_power_law() -> None:
    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.register_buffer("order", torch.randperm(64))
            self.register_buffer("sign", torch.randn(64).sign())

    module, ema = Module(), PowerEMA(power=2.0)
    order, sign = module.order.clone(), module.sign.clone()
    ema.setup(SimpleNamespace(precision="32-true"), module, "fit")
    count = 2000
    for step in range(1, count + 1):
        module.weight.data.fill_(step)
        ema._average_model.update_parameters(module)
    average = ema._average_model.module
    assert torch.equal(average.order, order) and torch.equal(average.sign, sign)
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    expected = (steps**2 * steps).sum() / (steps**2).sum()
    assert average.weight.item() == pytest.approx(expected.item(), rel=1e-3)
