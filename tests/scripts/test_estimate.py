"""Estimates follow from the config: the model, its optimizer, the data, the limits and the devices."""

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import flows
from data import Digits
from flows.training import Cost, Muon, decay_scales, estimate
from flows.training.communication import bytes_sent, exchange_seconds, waiting
from flows.training.cost import moments
from flows.training.forecast import limits, num_devices
from scripts.estimate import images_an_epoch, main
from tests.support.run import CONF

EXPERIMENTS = sorted(path.stem for path in (Path(CONF) / "experiment").glob("*.yaml"))
PAGE = (Path(__file__).parents[2] / "docs/papers.md").read_text()
MODEL = (Path(__file__).parents[2] / "docs/scaling.md").read_text()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("estimate", ["run_dir=.", *overrides])


def cost(num_steps: int, memory_flat: bool) -> Cost:
    with torch.device("meta"):
        flow = flows.build(
            "glow",
            image_shape=(3, 16, 16),
            num_levels=1,
            num_steps=num_steps,
            hidden_channels=8,
            memory_flat=memory_flat,
        )
    return estimate(flow)


def test_memory_flat_training_keeps_as_much_however_many_steps_and_computes_a_third_more() -> None:
    short, long, plain = cost(2, True), cost(6, True), cost(6, False)
    assert long.mebibytes == pytest.approx(short.mebibytes) and long.mebibytes < 0.3 * plain.mebibytes
    assert 1.2 < long.gflop / plain.gflop < 1.5
    assert long.parameters == plain.parameters


def test_what_optimizers_keep_is_counted() -> None:
    flow = flows.build("realnvp", image_shape=(1, 4, 4), num_levels=1, hidden_channels=3, num_blocks=1)
    total = sum(p.numel() for p in flow.parameters())
    matrices = sum(p.numel() for p in Muon(flow.named_parameters()).matrices)

    def parameters(named: object) -> list[torch.nn.Parameter]:
        return [p for _, p in named]  # type: ignore[attr-defined]

    assert moments(lambda named: torch.optim.Adam(parameters(named), fused=True), flow) == 2 * total
    assert moments(lambda named: torch.optim.Adamax(parameters(named), foreach=True), flow) == 2 * total
    assert moments(lambda named: torch.optim.SGD(parameters(named)), flow) == 0
    assert moments(lambda named: torch.optim.SGD(parameters(named), momentum=0.9), flow) == total
    assert moments(Muon, flow) == matrices + 2 * (total - matrices)
    adam = torch.optim.Adam
    assert moments(lambda named: decay_scales(named, optimizer=adam, lr=1e-3, weight_decay=0.1), flow) == 2 * total


def test_the_number_of_images_is_that_of_the_data() -> None:
    assert images_an_epoch(composed()) == 60_000 - 5_000
    assert images_an_epoch(composed("data.num_val=10_000")) == 50_000
    assert images_an_epoch(composed("data.num_train=1000")) == 1_000
    assert images_an_epoch(composed("data=svhn", "data.source.extra=true")) == 73_257 + 531_131 - 5_000
    assert images_an_epoch(composed("num_images=7000")) == 2_000
    assert images_an_epoch(composed("data=image_folder")) is None
    assert images_an_epoch(composed("data=image_folder", "num_images=7000")) == 6_500
    assert len(Digits().load()[0]) == Digits.num_images
    with pytest.raises(ValueError, match=r"of 4000 images, validation takes 5000, and none is left .*data\.num_val"):
        images_an_epoch(composed("num_images=4000"))
    for wrong in ("num_images=0", "num_images=-1", "num_images=many", "data.num_val=0", "data.num_train=0"):
        with pytest.raises(ValueError, match=f"{wrong.partition('=')[0]} is a whole number of at least 1, got "):
            images_an_epoch(composed(wrong))


@pytest.mark.parametrize(
    ("overrides", "name", "hours"),
    [
        (["trainer.max_epochs=2"], "trainer.max_epochs=2", 110_000),
        (["trainer.max_steps=10", "data.batch_size=20"], "trainer.max_steps=10", 200),
        (
            ["trainer.max_steps=10", "data.batch_size=20", "trainer.accumulate_grad_batches=3"],
            "trainer.max_steps=10",
            600,
        ),
        (["callbacks.throughput.max_images=500"], "callbacks.throughput.max_images=500", 500),
        (["callbacks.throughput.max_seconds=1800"], "callbacks.throughput.max_seconds=1800", 0.5),
        (["trainer.max_time='01:12:30:00'"], "trainer.max_time=01:12:30:00", 36.5),
        (["trainer.max_time={hours: 1, minutes: 30}"], "trainer.max_time={'hours': 1, 'minutes': 30}", 1.5),
        (["data=image_folder", "trainer.max_steps=10"], "trainer.max_steps=10", 320),
        (["trainer.max_steps=10", "~callbacks"], "trainer.max_steps=10", 320),
    ],
    ids=str,
)
def test_the_first_limit_ends_the_run(overrides: list[str], name: str, hours: float) -> None:
    """An image takes an hour here."""
    cfg = composed(*overrides)
    found = limits(cfg, images_an_epoch(cfg), float)
    assert min(found, key=lambda limit: found[limit]) == name and found[name] == hours


def test_without_a_limit_there_is_none() -> None:
    assert limits(composed("trainer.max_epochs=-1"), 55_000, float) == {}


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        ([], 1),
        (["trainer.devices=4"], 4),
        (["trainer.devices='4'"], 4),
        (["trainer.devices=[0,1]"], 2),
        (["trainer.devices='0,3,5'"], 3),
        (["trainer.devices=-1"], 1),
        (["trainer=ddp"], 1),
        (["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=2"], 16),
    ],
    ids=str,
)
def test_devices_are_counted(overrides: list[str], count: int) -> None:
    assert num_devices(composed(*overrides).trainer) == count


def test_all_devices_are_the_gpus_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert num_devices(composed("trainer=ddp", "trainer.num_nodes=2").trainer) == 16
    assert num_devices(composed("trainer=gpu", "trainer.devices=-1").trainer) == 8
    assert num_devices(composed("trainer=ddp", "trainer.accelerator=cpu").trainer) == 1


@pytest.mark.parametrize("overrides", [["model.memory_flat=true"], ["trainer.devices=2"], ["data=image_folder"]])
def test_it_prints_what_a_run_takes(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(composed("model.num_levels=2", "model.num_steps=1", "trainer.max_steps=1000", *overrides))
    printed = capsys.readouterr().out
    assert re.search(r"GiB on each device +[\d.e-]+ \(weights .*gradients .*optimizer .*average .*activations", printed)
    assert re.search(r"hours of the whole run +[\d.]+ by trainer.max_steps=1000", printed)
    assert ("unknown: give num_images=N" in printed) == ("data=image_folder" in overrides)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_estimated(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(composed(f"experiment={name}"))
    assert re.search(r"hours of the whole run +[\d.]+ by ", capsys.readouterr().out)


@pytest.mark.slow
def test_the_table_of_experiments_says_what_their_headers_say() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 17
    for name, parameters, gflop, mebibytes, hours in rows:
        header = re.sub(r"\n# ", " ", (Path(CONF) / f"experiment/{name}.yaml").read_text())
        assert f"Parameters: {parameters}." in header
        assert f"{gflop} GFLOP and {mebibytes} MiB of activations per image" in header
        assert f"takes {hours} hours" in header
        images = images_an_epoch(composed(f"experiment={name}"))
        assert images is None or f"an epoch of {images:,} images" in header


def test_in_a_ring_every_gradient_is_sent_twice_less_one_share() -> None:
    """Each device sends N - 1 shares of a sum, and N - 1 shares of the result; a share is 1 / N of the gradients."""
    for devices in (2, 4, 8):
        share = 4 * 1000 / devices
        assert bytes_sent(1000, devices) == pytest.approx(2 * (devices - 1) * share)
    assert bytes_sent(1000, 1) == 0


def test_the_model_of_communication_has_its_limits() -> None:
    seconds = exchange_seconds(10**9, 8, network_gb=10)
    assert seconds == pytest.approx(bytes_sent(10**9, 8) / 1e10, rel=0.1)
    assert exchange_seconds(1, 512, network_gb=1e9) == pytest.approx(2 * 9 * 10e-6)
    assert waiting(compute=3.0, exchange=2.0) == (0, 0.4)
    assert waiting(compute=3.0, exchange=5.0) == (0.5, 5 / 8)
    assert waiting(compute=12.0, exchange=5.0, num_batches=4) == (0.2, 5 / 17)


@pytest.mark.parametrize("devices", [1, 8])
def test_several_devices_are_told_how_long_they_wait(devices: int, capsys: pytest.CaptureFixture[str]) -> None:
    main(composed("model.num_levels=2", "model.num_steps=1", "network_gb=0.001", f"trainer.devices={devices}"))
    printed = capsys.readouterr().out
    assert ("at 0.001 GB/s" in printed) == ("MiB sent per step and device" in printed) == (devices > 1)


@pytest.mark.parametrize("speed", ["tflops=0", "network_gb=0", "network_gb=-1"])
def test_a_speed_is_above_0(speed: str) -> None:
    with pytest.raises(ValueError, match=f"{speed.partition('=')[0]} is the speed that the estimate assumes, above 0"):
        main(composed(speed))


def test_the_table_of_waiting_follows_from_the_headers_of_the_experiments() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\d,]+) \| ([\d,]+) \| (.*) \|$", MODEL, re.MULTILINE)
    assert len(rows) == 8
    for name, images, megabytes, milliseconds, parts in rows:
        header = re.sub(r"\n# ", " ", (Path(CONF) / f"experiment/{name}.yaml").read_text())
        (parameters,), (gflop,) = re.findall(r"Parameters: ([\d,]+)\.", header), re.findall(r"([\d.]+) GFLOP", header)
        count, compute = int(parameters.replace(",", "")), int(images) * float(gflop) * 1e9 / 10e12
        assert int(images) == composed(f"experiment={name}").data.batch_size // 8
        assert (megabytes, milliseconds) == (f"{4 * count / 1e6:,.0f}", f"{1000 * compute:,.0f}")
        clusters = [(8, 200), (64, 200), (512, 200), (64, 12.5), (512, 12.5)]
        expected = (waiting(compute, exchange_seconds(count, devices, gb)) for devices, gb in clusters)
        assert parts.split(" | ") == [f"{least:.0%} to {most:.0%}" for least, most in expected]
