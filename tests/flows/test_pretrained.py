"""The pretrained flows of Fashion-MNIST have the bits/dim that their page states, and draw without any argument."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from flows import Sampler
from flows.files import PRETRAINED
from flows.likelihood import bits_per_dim, draw_log_probs, mean_bits_per_dim
from flows.noise import uniform_noise
from flows.training import load_flow
from flows.training.quality.features import FashionMNISTFeatures

ROOT = Path(__file__).parents[2]
SIDE = 28


@pytest.fixture(scope="module")
def images() -> Tensor:
    """The first 1,000 test images, from a picture of 40 rows of 25."""
    picture = pil_to_tensor(Image.open(ROOT / "tests/support/fashion_mnist_1000.png"))
    return picture.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE).reshape(1, 1000, SIDE, SIDE).transpose(0, 1)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """The classes of these images, in the same rows."""
    rows = (ROOT / "tests/support/fashion_mnist_1000.txt").read_text().split()
    return torch.tensor([int(digit) for row in rows for digit in row])


@pytest.mark.parametrize("name", PRETRAINED)
@torch.no_grad()
def test_its_bits_per_dim_are_those_stated(name: str, images: Tensor, labels: Tensor) -> None:
    flow = load_flow(name)
    given = labels[:500] if flow.num_classes else None
    log_probs = draw_log_probs(flow, images[:500], given, torch.arange(500), num_draws=4, seed=0)
    bits = mean_bits_per_dim(log_probs, flow.num_dims)
    stated = re.search(
        rf"`{name}`.*?(\d\.\d{{3}}) ± (\d\.\d{{3}}) bits/dim.*?(\d\.\d{{3}}) on\s+the first 500",
        (ROOT / "docs/sampling.md").read_text(),
        flags=re.DOTALL,
    )
    assert stated is not None
    all_images, standard_error, of_these = map(float, stated.groups())
    assert abs(bits.mean() - of_these) < 1e-3
    assert abs(bits.mean() - all_images) < 3 * standard_error * (10_000 / 500) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
@torch.no_grad()
def test_a_thousand_images_come_back_by_both_decoders(name: str, images: Tensor, labels: Tensor) -> None:
    flow = load_flow(name)
    given = [labels] if flow.num_classes else []
    zs = flow.encode(images, *given)
    for parallel in (False, True):
        assert torch.equal(Sampler(flow, parallel).decode(zs, *given), images)


@torch.no_grad()
def test_samples_of_a_class_look_like_it() -> None:
    flow, features = load_flow("fashion_mnist_class"), FashionMNISTFeatures()
    label = torch.arange(200) % 10
    samples = flow.sample(range(200), label=label, guidance=1.0)
    right = features.classify(features(samples)) == label
    assert right.double().mean() > 0.85
    assert min(right[label == one].double().mean() for one in range(10)) >= 0.5


@torch.no_grad()
def test_half_precision_of_the_networks_changes_little(images: Tensor) -> None:
    """What trainer.precision=bf16-mixed does in validation."""
    flow = load_flow("fashion_mnist")
    few = images[:100]
    noise = uniform_noise(torch.arange(100), flow.image_shape, seed=0, stream=0)
    exact = bits_per_dim(flow.log_prob(few, None, noise), flow.num_dims)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = bits_per_dim(flow.log_prob(few, None, noise), flow.num_dims)
    assert (rounded - exact).abs().mean() > 0
    assert abs(rounded.mean() - exact.mean()) < 0.01


@pytest.mark.parametrize("name", PRETRAINED)
def test_it_is_small(name: str) -> None:
    assert PRETRAINED[name].stat().st_size <= 6_000_000


@pytest.mark.slow
def test_sampling_needs_no_argument(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "sample.py"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "samples/grid.png").exists()
    for temperature in ("0.5", "0.7", "0.85", "1"):
        assert len(list((tmp_path / f"samples/temperature-{temperature}").rglob("*.png"))) == 64
