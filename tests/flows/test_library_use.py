"""Wrong calls of the library get one sentence, a ValueError that says what to do; odd but sound ones just work."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flows
from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.folded import Folded
from flows.bijections.permutation import Permutation
from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow
from flows.likelihood import draw_log_probs
from flows.models.glow import PERMUTATIONS
from tests.support.perturb import perturb

ROOT = Path(__file__).parents[2]
GLOW: dict[str, Any] = {"image_shape": (1, 4, 6), "num_levels": 1, "num_steps": 1, "hidden_channels": 4}


@pytest.fixture(scope="module")
def flow() -> ImageFlow:
    return perturb(flows.build("glow", **GLOW, scale="tanh4"), 0.05)


@pytest.fixture(scope="module")
def labelled() -> ImageFlow:
    return perturb(flows.build("glow", **GLOW, num_classes=3), 0.05)


def images(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 1, 4, 6), dtype=torch.uint8)


def refused(call: Callable[[], object], *says: str) -> None:
    """Check that the call is answered by one sentence that has these words."""
    with pytest.raises(ValueError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    for part in says:
        assert part in text, text


COLOUR = {"image_shape": (3, 4, 6)}
IMAGES: dict[str, tuple[object, dict[str, Any], str]] = {
    "float": (torch.rand(2, 1, 4, 6), {}, "(255 * images).round().to(torch.uint8)"),
    "float64": (torch.rand(2, 1, 4, 6).double(), {}, "(255 * images).round().to(torch.uint8)"),
    "half": (torch.rand(2, 1, 4, 6).half(), {}, "(255 * images).round().to(torch.uint8)"),
    "int64": (images().long(), {}, "images.to(torch.uint8)"),
    "bool": (images() > 0, {}, "255 * images.to(torch.uint8)"),
    "array": (images().numpy(), {}, "torch.as_tensor(images)"),
    "list": (images().tolist(), {}, "got list"),
    "no channel and no batch": (images()[0, 0], {}, "images[None, None]"),
    "no batch": (images()[0], {}, "images[None]"),
    "no channel": (images(5)[:, 0], {}, "images[:, None]"),
    "channels last": (images().permute(0, 2, 3, 1), {}, "images.permute(0, 3, 1, 2)"),
    "channels last, colour": (images(3).view(1, 4, 6, 3), COLOUR, "images.permute(0, 3, 1, 2)"),
    "channels last, no batch": (images(3).view(4, 6, 3), COLOUR, "images.permute(2, 0, 1)[None]"),
    "float and channels last": (torch.rand(1, 4, 6, 3), COLOUR, "images.permute(0, 3, 1, 2)"),
    "another size": (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {}, "got torch.uint8 (2, 1, 8, 8)"),
    "one number": (torch.tensor(3, dtype=torch.uint8), {}, "got torch.uint8 ()"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_wrong_images_are_refused_with_a_remedy_that_works(name: str) -> None:
    wrong, change, says = IMAGES[name]
    flow = perturb(flows.build("glow", **{**GLOW, **change}), 0.05)
    for call in (flow.log_prob, flow.encode, lambda images: flows.initialize(flow, images)):
        refused(lambda call=call: call(wrong), "the flow expects uint8 images (B, ", says)
    with pytest.raises(ValueError) as error:
        flow.log_prob(wrong)
    steps = re.findall("`(.*?)`", str(error.value))
    for step in steps:
        wrong = eval(step, {"torch": torch, "images": wrong})
    if steps and name != "list":
        assert flow.log_prob(wrong).shape == (len(wrong),)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_less_than_float32_is_refused(dtype: torch.dtype) -> None:
    flow = flows.build("glow", **GLOW).to(dtype)
    zs = [torch.zeros(1, 4, 2, 3)]
    for call in (
        lambda: flow.log_prob(images()),
        lambda: flow.encode(images()),
        lambda: flow.decode(zs),
        lambda: flow.sample([0]),
        lambda: flows.initialize(flow, images()),
    ):
        refused(call, f"float32 or float64, and this one is in {dtype}", "flow.float()")
    flow.float()
    assert flow.log_prob(images()).dtype == torch.float32
    refused(lambda: flow.log_prob(images(), noise=torch.rand(2, 1, 4, 6).to(dtype)), "torch.float32 or torch.float64")
    refused(lambda: flow.encode(images(), noise=torch.rand(2, 1, 4, 6).to(dtype)), "torch.float32 or torch.float64")
    refused(lambda: flow.decode([z.to(dtype) for z in zs]), f"got {dtype}")
    with torch.autocast("cpu", torch.bfloat16):
        assert flow.log_prob(images()).dtype == torch.float32


def test_another_device_or_precision_is_named(flow: ImageFlow) -> None:
    elsewhere = flows.build("glow", **GLOW).to("meta")
    refused(lambda: elsewhere.log_prob(images()), "images are on cpu, and the flow is on meta")
    refused(lambda: flow.log_prob(images(), noise=torch.rand(2, 1, 4, 6, device="meta")), "noise is on meta")
    refused(lambda: flow.decode([torch.zeros(1, 4, 2, 3).double()]), "latents are torch.float64", "torch.float32")
    assert elsewhere.log_prob(images().to("meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (1, "got 1"),
        ([0, 1], "got list"),
        (torch.tensor(1), "got torch.int64 ()"),
        (torch.tensor([0]), "got torch.int64 (1,)"),
        (torch.tensor([[0], [1]]), "got torch.int64 (2, 1)"),
        (torch.tensor([0.0, 1.0]), "got torch.float32 (2,)"),
        (torch.tensor([True, False]), "got torch.bool (2,)"),
        (np.array([0, 1]), "got ndarray (2,)"),
        (torch.tensor([0, 1], device="meta"), "label is on meta"),
    ],
    ids=str,
)
def test_a_label_of_the_wrong_kind_is_refused_by_all(labelled: ImageFlow, label: object, says: str) -> None:
    zs = labelled.encode(images(), torch.tensor([0, 1]))
    for call in (
        lambda: labelled.log_prob(images(), label),
        lambda: labelled.encode(images(), label),
        lambda: labelled.decode(zs, label),
        lambda: labelled.sample([0, 1], label=label),
    ):
        refused(call, says)


@pytest.mark.parametrize("label", [[-1, 0], [0, 3], [7, 7], [2**40, 0]], ids=str)
def test_a_label_of_no_class_is_refused_where_values_are_looked_at(labelled: ImageFlow, label: list[int]) -> None:
    zs = labelled.encode(images(), torch.tensor([0, 1]))
    wrong = next(str(number) for number in label if not 0 <= number < 3)
    for call in (
        lambda: labelled.encode(images(), torch.tensor(label)),
        lambda: labelled.decode(zs, torch.tensor(label)),
        lambda: labelled.sample([0, 1], label=torch.tensor(label)),
    ):
        refused(call, f"labels of this flow are from 0 to 2, got {wrong}")


def test_a_label_for_a_flow_without_classes_is_refused(flow: ImageFlow) -> None:
    label = torch.tensor([0, 1])
    for call in (
        lambda: flow.log_prob(images(), label),
        lambda: flow.encode(images(), label),
        lambda: flow.decode(flow.encode(images()), label),
        lambda: flow.sample([0, 1], label=label),
    ):
        refused(call, "built without classes", "leave label out")


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        (torch.rand(1, 1, 4, 6), "got torch.float32 (1, 1, 4, 6)"),
        (torch.rand(4, 6), "got torch.float32 (4, 6)"),
        (torch.zeros(2, 1, 4, 6, dtype=torch.int64), "got torch.int64"),
        (np.zeros((2, 1, 4, 6)), "got ndarray"),
        ("half", "got 'half'"),
    ],
    ids=["one for all", "no channels", "int64", "numpy", "text"],
)
def test_noise_of_the_wrong_kind_is_refused(flow: ImageFlow, noise: Any, says: str) -> None:
    refused(lambda: flow.log_prob(images(), noise=noise), "noise has the shape of the images", says)
    refused(lambda: flow.encode(images(), noise=noise), "noise has the shape of the images", says)


@pytest.mark.parametrize(
    "noise", [1, 1.0, -0.1, float("nan"), torch.tensor(1.5), torch.full((2, 1, 4, 6), 1.0), -torch.rand(2, 1, 4, 6)]
)
def test_noise_out_of_its_range_is_refused_where_values_are_looked_at(flow: ImageFlow, noise: Any) -> None:
    refused(lambda: flow.encode(images(), noise=noise), "noise is at least 0 and below 1, got values from")


def test_noise_just_below_1_stays_in_its_bin_in_every_precision(flow: ImageFlow) -> None:
    grey, below = images(), torch.full((2, 1, 4, 6), 1 - 1e-12, dtype=torch.float64)
    (expected,) = flow.encode(grey, noise=1 - 2.0**-16)
    assert torch.equal(flow.encode(grey, noise=1 - 1e-12)[0], expected)
    assert torch.equal(flow.encode(grey, noise=below)[0], expected)
    highest = torch.full((2, 1, 4, 6), 1 - 2.0**-16)
    assert torch.equal(flow.log_prob(grey, noise=below), flow.log_prob(grey, noise=highest))


@pytest.mark.parametrize(
    "temperature", [float("nan"), float("inf"), -1, -1e-9, [0.5, 0.7], torch.tensor([0.5, 0.7]), "0.7", None, 10**400]
)
def test_a_temperature_that_is_no_finite_number_of_at_least_0_is_refused(flow: ImageFlow, temperature: Any) -> None:
    refused(lambda: flow.sample([0], temperature), "temperature is at least 0, got", "one finite number")


@pytest.mark.parametrize(
    "seeds", [16, None, 1.5, "01", [0.0], [1, None], torch.tensor(3), torch.rand(2), torch.Generator(), [[1]]]
)
def test_seeds_that_are_no_whole_numbers_are_refused(flow: ImageFlow, seeds: Any) -> None:
    refused(lambda: flow.sample(seeds), "seeds are whole numbers, one for each image, such as range(16)", "got")


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, 2**70])
def test_seeds_that_would_repeat_the_images_of_others_are_refused(flow: ImageFlow, seed: int) -> None:
    refused(lambda: flow.sample([0, seed]), "a seed is a whole number from 0 to 4294967295", f"got {seed}")


def test_whole_numbers_of_every_kind_are_seeds_and_numbers_of_every_kind_temperatures(flow: ImageFlow) -> None:
    expected = flow.sample([3, 1, 3], 0.5)
    for seeds in ((3, 1, 3), iter([3, 1, 3]), torch.tensor([3, 1, 3]), np.array([3, 1, 3]), [np.int64(3), 1, 3]):
        assert torch.equal(flow.sample(seeds, 0.5), expected)
    for temperature in (np.float64(0.5), torch.tensor(0.5), np.float32(0.5)):
        assert torch.equal(flow.sample([3, 1, 3], temperature), expected)
    assert flow.sample([2**32 - 1]).shape == (1, 1, 4, 6)


def test_no_image_at_all_is_refused(flow: ImageFlow) -> None:
    for call in (flow.log_prob, flow.encode, lambda none: flows.initialize(flow, none)):
        refused(lambda call=call: call(images(0)), "at least one image, got none")
    refused(lambda: flow.decode([torch.zeros(0, 4, 2, 3)]), "as encode returns them")
    refused(lambda: flow.sample([]), "one whole number for each image, got none")
    refused(lambda: flows.initialize(ActNorm(3), torch.zeros(0, 3, 4, 4)), "at least one image, got none")


@pytest.mark.parametrize(
    "zs",
    [
        [],
        None,
        torch.zeros(2, 4, 2, 3),
        [torch.zeros(2, 4, 2, 3)] * 2,
        [torch.zeros(4, 2, 3)],
        [torch.zeros(2, 4, 3, 2)],
        [torch.zeros(2, 24)],
        [torch.zeros(2, 4, 2, 3, dtype=torch.int64)],
        [np.zeros((2, 4, 2, 3))],
    ],
)
def test_latents_that_encode_would_not_return_are_refused(flow: ImageFlow, zs: Any) -> None:
    refused(lambda: flow.decode(zs), "a list of latents as encode returns them, finest first, (B, 4, 2, 3), got")


def test_latents_of_different_numbers_of_images_are_refused() -> None:
    flow = flows.build("glow", **{**GLOW, "image_shape": (1, 8, 8), "num_levels": 2})
    refused(lambda: flow.decode([torch.zeros(2, 2, 4, 4), torch.zeros(3, 8, 2, 2)]), "as encode returns them")
    refused(lambda: flow.decode([torch.zeros(2, 8, 2, 2), torch.zeros(2, 2, 4, 4)]), "(B, 2, 4, 4), (B, 8, 2, 2)")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "glow"}, "glow needs image_shape"),
        ({"name": "glow", "image_shape": 28}, "three positive whole numbers (C, H, W), got 28"),
        ({"name": "glow", "image_shape": (1, 8.0, 8)}, "three positive whole numbers"),
        ({"name": None, "image_shape": (1, 8, 8)}, "model is one of"),
        ({"name": ["glow"], "image_shape": (1, 8, 8)}, "model is one of"),
        ({"name": "glow", "image_shape": (1, 8, 8), "scale": ["tanh4"]}, "scale is one of"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": True}, "num_levels is a whole number"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": 1, "num_bits": 8.0}, "num_bits is a whole number"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": 1, "input_limit": float("nan")}, "input_limit"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": 1, "input_limit": "6"}, "input_limit"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": 1, "num_classes": 0}, "num_classes"),
        (
            {
                "name": "glow",
                "image_shape": (1, 8, 8),
                "num_levels": 1,
                "top_prior": "autoregressive",
                "prior_width": 48,
            },
            "prior_width is a multiple of 32, the width of a head, got 48",
        ),
        ({"name": "tarflow", "image_shape": (1, 9, 9)}, "choose a smaller num_squeezes, or images of 8 or 10 pixels"),
        ({"name": "glow", "image_shape": (1, 8, 8), "num_levels": 1, "top_prior": ["channel"]}, "top_prior is one of"),
    ],
    ids=str,
)
def test_wrong_arguments_of_build_are_named(arguments: dict[str, Any], says: str) -> None:
    refused(lambda: flows.build(**arguments), says)


def test_wrong_draws_are_named(flow: ImageFlow) -> None:
    index = torch.arange(2)
    refused(lambda: draw_log_probs(flow, images(), None, index, num_draws=0, seed=0), "num_draws is a whole number")
    refused(lambda: draw_log_probs(flow, images(), None, torch.arange(3), num_draws=1, seed=0), "noise has the shape")
    refused(lambda: draw_log_probs(flow, images(), None, index.float(), num_draws=1, seed=0), "index is int64 (B,)")
    refused(
        lambda: draw_log_probs(flow, images(), None, index, num_draws=1, seed=2**70),
        "seed of noise is a whole",
    )


OWN = """
from flows.bijections.elementwise import Affine


class Own(Affine):
    pass
"""
ENTRY = '"affine": Affine,'


@pytest.mark.slow
def test_a_file_of_ones_own_is_imported_where_the_page_says(tmp_path: Path) -> None:
    package = tmp_path / "flows"
    shutil.copytree(ROOT / "flows", package, ignore=shutil.ignore_patterns("pretrained", "training", "__pycache__"))
    (package / "own.py").write_text(OWN)
    path = package / "bijections/elementwise.py"
    before, mark, after = path.read_text().partition("COUPLINGS: ")
    path.write_text(f"{before}from flows.own import Own\n\n{mark}{after}".replace(ENTRY, f'{ENTRY} "own": Own,'))
    code = "import flows; print(type(flows.build('glow', image_shape=(1, 8, 8), coupling='own').multiscale).__name__)"
    for first in ("", "import flows.own; ", "import flows.bijections.elementwise; ", "import flows.models.glow; "):
        shown = subprocess.run(
            [sys.executable, "-c", first + code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert shown.stdout == "Multiscale\n", shown.stderr


@pytest.mark.parametrize("permutation", PERMUTATIONS)
@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64], ids=str)
def test_a_flow_computes_in_its_own_precision_whatever_the_default_is(
    permutation: str, default: torch.dtype, precision: torch.dtype
) -> None:
    flow = flows.build("glow", **GLOW, permutation=permutation).to(precision)
    first = Chain(Folded(Permutation.random(1), ActNorm(1)), Folded(ActNorm(1), Permutation.random(1))).to(precision)
    torch.set_default_dtype(default)
    try:
        flow.multiscale.levels[0].bijections.insert(0, first)
        grey = images()
        flows.initialize(flow, grey)
        assert torch.equal(flow.decode(flow.encode(grey)), grey)
        assert {z.dtype for z in flow.encode(grey)} == {precision}
        flow.log_prob(grey).sum().backward()
        assert flow.sample([0]).dtype == torch.uint8
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_file_that_could_not_be_loaded_is_not_written(flow: ImageFlow, tmp_path: Path) -> None:
    refused(lambda: flows.save(flow, tmp_path / "mine.pt"), "mine.pt", "ends in .safetensors")
    refused(lambda: flows.save(flows.Glow(**GLOW), tmp_path / "mine.safetensors"), "make the flow by flows.build")
    assert not [*tmp_path.iterdir()]


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    sizes = {"num_levels": np.int64(1), "num_steps": np.int32(1), "hidden_channels": np.uint8(4)}
    flow = flows.build("glow", image_shape=tuple(np.array([1, 4, 6])), **sizes, input_limit=np.float32(3))
    assert flow.spec == {"name": "glow", **GLOW, "image_shape": [1, 4, 6], "input_limit": 3.0}
    flows.save(flow, tmp_path / "mine.safetensors")
    assert flows.load(tmp_path / "mine.safetensors").spec == flow.spec


def test_latents_are_drawn_on_the_cpu_whatever_the_default_device_is(flow: ImageFlow) -> None:
    expected = flow.draw_latents(range(2))
    with torch.device("meta"):
        found = flow.draw_latents(range(2))
    assert all(map(torch.equal, found, expected))


def test_a_compiled_flow_is_initialised() -> None:
    flow = flows.build("glow", **GLOW, num_classes=3)
    flows.initialize(torch.compile(flow), images(), torch.tensor([0, 2]))
    assert flow.initialized


def test_a_compiled_flow_is_stored_as_the_flow(flow: ImageFlow, tmp_path: Path) -> None:
    compiled = torch.compile(flow)
    flows.save(compiled, tmp_path / "mine.safetensors")
    again = flows.load(tmp_path / "mine.safetensors")
    assert fingerprint(again) == fingerprint(flow) == fingerprint(compiled)


def test_a_file_keeps_the_precision(tmp_path: Path) -> None:
    flow = perturb(flows.build("glow", **GLOW, num_classes=3).double(), 0.1)
    flows.save(flow, tmp_path / "mine.safetensors")
    again = flows.load(tmp_path / "mine.safetensors")
    assert all(map(torch.equal, again.state_dict().values(), flow.state_dict().values()))
    flows.save(flow.bfloat16(), tmp_path / "half.safetensors")
    assert next(flows.load(tmp_path / "half.safetensors").parameters()).dtype == torch.float32
