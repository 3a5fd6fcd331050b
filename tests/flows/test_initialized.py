"""A flow knows whether its starting point is set; who scores one without is told once, and none is set twice."""

import copy
import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import flows
from data import ImageData, TensorImages
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim
from flows.networks.conditioner import WeightNormConv2d, plain_conv
from flows.prior import TopPrior
from flows.training import LitFlow, load_flow, save_flow
from tests.support.perturb import perturb

SPECS: dict[str, dict[str, Any]] = {
    "glow": {"name": "glow", "num_steps": 1, "preprocess": "gaussianize", "dequantize": "variational"},
    "realnvp": {"name": "realnvp", "num_blocks": 1},
}


def make(name: str = "glow") -> ImageFlow:
    return flows.build(image_shape=(1, 4, 4), num_levels=1, hidden_channels=4, **SPECS[name])


def images(count: int = 4) -> Tensor:
    return torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_pickle(flow: ImageFlow) -> ImageFlow:
    return pickle.loads(pickle.dumps(flow))


def by_torch(flow: ImageFlow) -> ImageFlow:
    file = io.BytesIO()
    torch.save(flow, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state(flow: ImageFlow) -> ImageFlow:
    other = flows.build(**flow.spec)
    other.load_state_dict(flow.state_dict())
    return other


def by_state_of_what_holds_it(flow: ImageFlow) -> ImageFlow:
    other = nn.ModuleDict({"flow": flows.build(**flow.spec)})
    other.load_state_dict({f"flow.{name}": value for name, value in flow.state_dict().items()}, assign=True)
    return other["flow"]


COPIES = [copy.deepcopy, by_pickle, by_torch, by_state, by_state_of_what_holds_it]


@pytest.mark.parametrize("copied", COPIES, ids=lambda copied: copied.__name__)
@pytest.mark.parametrize("name", SPECS)
def test_copies_are_the_same_flow_and_know_that_it_is_initialised(
    name: str, copied: Callable[[ImageFlow], ImageFlow], caplog: pytest.LogCaptureFixture
) -> None:
    flow = make(name)
    flows.initialize(flow, images())
    perturb(flow, 0.05)
    noise = torch.rand(4, 1, 4, 4)
    flow.log_prob(images(), noise=noise).sum().backward()  # a flow at work can be copied, too
    other = copied(flow)
    assert other.initialized and not set(vars(other)["_parameters"]) & {"initialized"}
    assert list(other.state_dict()) == list(flow.state_dict()) and other.spec == flow.spec
    assert torch.equal(other.log_prob(images(), noise=noise), flow.log_prob(images(), noise=noise))
    assert torch.equal(other.sample([0, 1]), flow.sample([0, 1]))
    assert not caplog.text


def test_a_flow_never_initialised_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    flow = make()
    flow.log_prob(images()).mean().backward()
    flow.log_prob(images())
    copy.deepcopy(flow).log_prob(images())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "this Glow was never initialised" in record.getMessage() and "flows.initialize(flow" in record.getMessage()


def test_what_has_nothing_to_initialise_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    flow = make()
    flow.multiscale.levels[0].bijections = nn.ModuleList()
    flow.dequantize, flow.multiscale.top = Dequantize(), TopPrior((1, 4, 4), "standard")
    flow.log_prob(images())
    assert not caplog.records


def test_a_flow_without_values_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    make().to("meta").log_prob(images().to("meta"))
    assert not caplog.records


def test_initialising_and_failing_to(caplog: pytest.LogCaptureFixture) -> None:
    flow = make()
    with pytest.raises(ValueError, match="uint8 images"):
        flows.initialize(flow, images().float())
    assert not flow.initialized
    flows.initialize(flow, images())
    assert flow.initialized and not caplog.records


def test_some_of_the_weights_are_not_all() -> None:
    flow, state = make(), make().state_dict()
    del state[next(iter(state))]
    flow.load_state_dict(state, strict=False)
    assert not flow.initialized


def fit(flow: ImageFlow, tmp_path: Path) -> dict[str, Tensor]:
    """Set a flow up for training on other images, without a step; return its state."""

    class Unmoved(LitFlow):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

        configure_gradient_clipping = L.LightningModule.configure_gradient_clipping

    lit = Unmoved(flow, optimizer=lambda named: torch.optim.SGD([p for _, p in named], lr=0.0), schedule=lambda *_: 1.0)
    dark = TensorImages(images(40) // 4)
    data = ImageData(source=Held(dark), image_shape=(1, 4, 4), num_val=8, batch_size=8)
    trainer = L.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(lit, data)
    return {name: value.clone() for name, value in flow.state_dict().items()}


class Held:
    """A source of images that are there."""

    def __init__(self, images: TensorImages) -> None:
        self.images = images

    def prepare(self) -> None:
        pass

    def load(self) -> tuple[TensorImages, TensorImages]:
        return self.images, self.images


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_training_initialises_what_is_not_and_leaves_what_is(tmp_path: Path) -> None:
    fresh = make()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    after = fit(fresh, tmp_path)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    again = fit(fresh, tmp_path)
    assert all(torch.equal(after[name], again[name]) for name in after)

    flow = make()
    flows.initialize(flow, images())
    save_flow(flow, tmp_path / "flow.safetensors")
    for known in (flow, load_flow(tmp_path / "flow.safetensors"), by_pickle(flow), by_state(flow)):
        after = fit(known, tmp_path)
        assert all(torch.equal(after[name], value) for name, value in flow.state_dict().items())


def test_weight_norm_is_that_of_torch_with_its_names_and_its_bits() -> None:
    torch.manual_seed(0)
    theirs = weight_norm(plain_conv(3, 5, 3))
    torch.manual_seed(0)
    ours = WeightNormConv2d(3, 5)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for layer in (ours, theirs):
        torch.manual_seed(1)
        perturb(layer, 0.3)
    x = torch.randn(2, 3, 4, 4)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    gradients = [torch.autograd.grad(layer(x).square().sum(), list(layer.parameters())) for layer in (ours, theirs)]
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.slow
def test_a_flow_goes_to_a_process_of_its_own() -> None:
    flow = make("realnvp")
    flows.initialize(flow, images())
    with torch.multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(score, [flow])
    torch.testing.assert_close(there, score(flow))


def score(flow: ImageFlow) -> float:
    with torch.no_grad():
        log_prob = flow.log_prob(images(), noise=torch.full((4, 1, 4, 4), 0.5))
        return bits_per_dim(log_prob, flow.num_dims).mean().item()
