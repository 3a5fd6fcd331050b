"""Images come back to the last bit, in as many bits as the flow says, whatever the flow and the images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("constriction")

import flows
from flows.coding import Coded, CodingError, ImageCodec, read_stream, write_stream
from flows.coding.codec import OTHER_ARITHMETIC
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim
from flows.models.glow import PERMUTATIONS
from tests.support.perturb import perturb

GLOW: dict[str, Any] = {"name": "glow", "num_levels": 2, "num_steps": 2, "hidden_channels": 8}
REALNVP: dict[str, Any] = {"name": "realnvp", "num_levels": 2, "hidden_channels": 4, "num_blocks": 1}
TARFLOW: dict[str, Any] = {"name": "tarflow", "num_blocks": 2, "num_layers": 1, "width": 8, "num_heads": 1}

SPECS: dict[str, dict[str, Any]] = {
    **{f"glow-{value}": {**GLOW, "permutation": value} for value in PERMUTATIONS},
    "glow-gaussianize": {**GLOW, "preprocess": "gaussianize", "top_prior": "position", "input_limit": 3.0},
    "glow-five-bits": {**GLOW, "num_bits": 5},
    "glow-mixture": {**GLOW, "coupling": "mixture"},
    "glow-autoregressive": {**GLOW, "top_prior": "autoregressive"},
    "glow-classes": {**GLOW, "num_classes": 3, "condition": "couplings"},
    "glow-dropped": {**GLOW, "num_classes": 3, "label_dropout": 0.1, "top_prior": "autoregressive"},
    "realnvp": REALNVP,
    "tarflow": {**TARFLOW, "mix": True, "num_classes": 3},
}


def make(spec: dict[str, Any], shape: tuple[int, int, int] = (3, 8, 8)) -> ImageFlow:
    torch.manual_seed(0)
    made = perturb(flows.build(image_shape=shape, **spec), 0.05)
    assert isinstance(made, ImageFlow)
    made.initialized = True
    return made


def images_for(flow: ImageFlow) -> Tensor:
    """Return samples of the flow, noise and images of one grey level: 11 images."""
    label = None if flow.num_classes is None else torch.arange(5) % 3
    constant = torch.arange(3).mul(100)[:, None, None, None].expand(3, *flow.image_shape)
    noise = torch.randint(0, 256, (3, *flow.image_shape))
    return torch.cat((flow.sample(range(5), label=label), constant.to(torch.uint8), noise.to(torch.uint8)))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_images_come_back_to_the_last_bit(spec: dict[str, Any]) -> None:
    flow = make(spec)
    images = images_for(flow)
    codec = ImageCodec(flow)
    counts: list[int] = []
    coded = codec.encode(images, 4, counts.append)
    assert sum(counts) == coded.num_images == len(images) and counts == coded.batch_sizes
    assert torch.equal(codec.decode(coded), images)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_stream_is_as_long_as_the_flow_says(spec: dict[str, Any]) -> None:
    flow = make(spec)
    label = None if flow.num_classes is None else torch.arange(30) % 3
    images = flow.sample(range(30), label=label)
    bits, starting = ImageCodec(flow).encode(images).num_bits(flow.num_dims)
    with torch.no_grad():
        log_probs = torch.stack([flow.log_prob(images, noise=torch.rand(images.shape)) for _ in range(8)])
    said = bits_per_dim(log_probs.double(), flow.num_dims).mean().item()
    dropped = 8 - flow.dequantize.num_bits  # the flow does not model these bits, and the stream holds them
    assert bits / images.numel() - dropped == pytest.approx(said, rel=0.01, abs=0.03)
    assert 0 < starting < 60 * flow.num_dims


def test_one_image_comes_back() -> None:
    flow = make(GLOW)
    codec, images = ImageCodec(flow), flow.sample([0])
    assert torch.equal(codec.decode(codec.encode(images)), images)


def test_another_number_of_threads_does_no_harm() -> None:
    flow = make(GLOW)
    images, codec, threads = images_for(flow), ImageCodec(flow), torch.get_num_threads()
    coded = codec.encode(images)
    torch.set_num_threads(threads + 1)
    try:
        assert torch.equal(codec.decode(coded), images)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_autocast_changes_no_number() -> None:
    flow = make(GLOW)
    images, codec = images_for(flow), ImageCodec(flow)
    with torch.autocast("cpu", torch.bfloat16):
        coded = codec.encode(images)
    assert torch.equal(codec.decode(coded), images)


def test_networks_that_compute_other_numbers_give_no_images() -> None:
    flow = make(GLOW)
    coded = ImageCodec(flow).encode(images_for(flow))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(1 + 1e-6)
    with pytest.raises(CodingError, match=OTHER_ARITHMETIC):
        ImageCodec(flow).decode(coded)
    with pytest.raises(CodingError, match=OTHER_ARITHMETIC):
        ImageCodec(make(GLOW)).decode(replace(coded, digest="0" * 64))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({**GLOW, "dequantize": "variational"}, "coded with uniform noise, and this flow has variational noise"),
        ({**GLOW, "condition_shape": (3, 4, 4)}, "a flow that is given images cannot code images alone"),
    ],
)
def test_flows_without_a_code_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageCodec(make(spec))


def test_flows_of_another_precision_are_refused() -> None:
    with pytest.raises(ValueError, match=r"call flow\.cpu\(\)\.float\(\) before"):
        ImageCodec(make(GLOW).double())


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageFlow, Coded]:
    flow = make(GLOW)
    coded = ImageCodec(flow).encode(images_for(flow))
    path = tmp_path_factory.mktemp("stream") / "images.flow"
    write_stream(path, flow, coded, [f"{k}.png" for k in range(coded.num_images)])
    return path, flow, coded


def test_a_file_holds_the_images_and_their_names(stream: tuple[Path, ImageFlow, Coded]) -> None:
    path, flow, coded = stream
    found, names = read_stream(path, flow)
    assert names == [f"{k}.png" for k in range(11)]
    assert torch.equal(ImageCodec(flow).decode(found), ImageCodec(flow).decode(coded))


def test_files_that_hold_no_whole_stream_are_refused(stream: tuple[Path, ImageFlow, Coded], tmp_path: Path) -> None:
    path, flow, _ = stream
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    cases = {
        whole[:-1]: "is damaged, or its end is missing",
        whole[: len(whole) // 2]: "is damaged, or its end is missing",
        whole[:20]: "is damaged, or its end is missing",
        bytes(damaged): "is damaged, or its end is missing",
        b"": "holds no coded images",
        b"other things": "holds no coded images",
    }
    for content, message in cases.items():
        (tmp_path / "broken.flow").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_stream(tmp_path / "broken.flow", flow)
    with pytest.raises(ValueError, match="coded by another flow: give the flow that coded them"):
        read_stream(path, make({**GLOW, "num_steps": 1}))


def test_images_on_another_device_are_refused() -> None:
    flow = make(GLOW)
    with pytest.raises(ValueError, match="images are on meta, and the flow is on cpu"):
        ImageCodec(flow).encode(images_for(flow).to("meta"))
