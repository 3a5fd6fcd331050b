"""What the examples of docs/extending.md add holds as all else does: exact, in every precision, on every device."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

import data
import flows
import train
from tests.docs.pages import blocks, names_of, spans
from tests.support.fake_device import DEVICES, assert_holds_on
from tests.support.perturb import perturb
from tests.support.run import CONF, TINY, run_training

PAGE = "docs/extending.md"
EXAMPLES = {re.findall(r"^(?:class|def) (\w+)", code, flags=re.MULTILINE)[0]: code for code in blocks(PAGE, "python")}
FLOWS = [name for name, code in EXAMPLES.items() if "flow = flows.build" in code]
SETTINGS = [span for span in spans(PAGE) if re.fullmatch(r"model\.\w+=\w+", span)]
CONFIGS = {re.findall(r"^# (conf/[\w/]+\.yaml)", code, re.MULTILINE)[0]: code for code in blocks(PAGE, "yaml")}

every_flow = pytest.mark.parametrize("name", FLOWS)
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def built(name: str, dtype: torch.dtype = torch.float64) -> tuple[flows.ImageFlow, Tensor]:
    """Return the flow of an example, away from its starting point, and the images."""
    names = names_of(PAGE, EXAMPLES[name])
    return perturb(names["flow"].to(dtype), 0.1), names["images"]


@every_flow
@every_precision
def test_it_decodes_what_it_encodes(name: str, dtype: torch.dtype) -> None:
    flow, images = built(name, dtype)
    zs = flow.encode(images)
    assert all(z.dtype == dtype for z in zs)
    assert torch.equal(flow.decode(zs), images)
    assert flow.sample(range(2)).shape == (2, *flow.image_shape)


@every_flow
def test_its_log_det_is_that_of_autograds_jacobian(name: str) -> None:
    flow, images = built(name)
    x = flow.dequantize.place(images[:1], torch.full((1, *flow.image_shape), 0.5, dtype=torch.float64))

    def latents(x: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in flow.multiscale(x)[0]])

    jacobian = torch.autograd.functional.jacobian(latents, x).reshape(64, 64)
    torch.testing.assert_close(flow.multiscale(x)[1][0], torch.linalg.slogdet(jacobian).logabsdet)


@every_flow
def test_memory_flat_training_has_the_same_gradients(name: str) -> None:
    plain, images = built(name)
    flat = flows.build(**plain.spec, memory_flat=True).double()
    flat.load_state_dict(plain.state_dict())
    for flow in (plain, flat):
        flow.log_prob(images, noise=torch.full(images.shape, 0.5)).sum().backward()
    for (key, one), other in zip(plain.named_parameters(), flat.parameters(), strict=True):
        assert one.grad is not None and one.grad.count_nonzero() > 0, key
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-7, atol=1e-9, msg=key)


@every_flow
@every_precision
@pytest.mark.parametrize("device", DEVICES)
def test_it_holds_on_every_device(name: str, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, _ = built(name, dtype)
    assert_holds_on(device, flow, monkeypatch)


@pytest.fixture
def with_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Add what the page adds, as part of the project; return where the configs are, as a setting."""
    names = {name: value for code in EXAMPLES.values() for name, value in names_of(PAGE, code).items()}
    monkeypatch.setattr(data, "Ramps", names["Ramps"], raising=False)
    for path, config in CONFIGS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(config)
    return f"hydra.searchpath=[{tmp_path / 'conf'}]"


def composed(*overrides: str) -> Any:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", [*overrides, "run_dir=."])


def test_every_example_has_a_setting_or_a_config() -> None:
    assert len(SETTINGS) == len(FLOWS) - 1  # a model has a config
    assert {*CONFIGS} == {"conf/model/nice.yaml", "conf/data/ramps.yaml", "conf/experiment/ramps.yaml"}


def test_the_configs_make_what_they_name(with_all: str) -> None:
    cfg = composed("experiment=ramps", with_all)
    images = instantiate(cfg.data)
    images.prepare_data()
    images.setup()
    batch = next(iter(images.train_dataloader()))
    assert batch.images.shape == (32, 1, 8, 8)
    flow = instantiate(cfg.model)
    assert flow.spec == {"name": "nice", "image_shape": [1, 8, 8], "num_steps": 8, "hidden_channels": 32}
    assert flow.log_prob(batch.images).shape == (32,)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_setting_trains(setting: str, with_all: str, tmp_path: Path) -> None:
    run_training(tmp_path / "run", setting, "trainer.max_steps=2")


def test_the_experiment_trains(with_all: str, tmp_path: Path) -> None:
    tiny = [override for override in TINY if override != "data=digits"]
    (tmp_path / "run").mkdir()
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["experiment=ramps", with_all, *tiny, f"run_dir={tmp_path / 'run'}"])
    assert train.main(cfg) < 8
