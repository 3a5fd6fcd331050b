"""Convolutions between few and many channels are those of torch, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flows.networks import narrow_conv
from flows.networks.narrow_conv import conv2d, conv2d_backward

SHAPES = {
    "to few": (2, 20, 4, 32, 34),
    "to one": (3, 16, 1, 28, 28),
    "from few": (2, 3, 24, 33, 32),
    "rows of one pixel": (700, 16, 2, 3, 1),
    "single pixels": (2048, 16, 2, 1, 1),
    "many to some": (2, 96, 24, 24, 25),
    "few pixels": (1, 16, 2, 4, 4),
    "few pixels, many channels": (3, 24, 20, 5, 7),
    "few pixels, more channels": (3, 20, 24, 5, 7),
    "neither": (2, 20, 24, 32, 32),
}


def drawn(name: str, dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, Tensor, Tensor]:
    """Return an image, a kernel and a bias."""
    batch_size, in_channels, out_channels, height, width = SHAPES[name]
    torch.manual_seed(0)
    x = torch.randn(batch_size, in_channels, height, width, dtype=dtype).contiguous(memory_format=memory_format)
    return x, torch.randn(out_channels, in_channels, 3, 3, dtype=dtype) / 10, torch.randn(out_channels, dtype=dtype)


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_torch(
    name: str, dtype: torch.dtype, memory_format: torch.memory_format, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow_conv, "has_avx512", lambda: avx512)
    x, kernel, bias = drawn(name, dtype, memory_format)
    x.requires_grad_(), kernel.requires_grad_()
    values = F.conv2d(x, kernel, bias, padding=1)
    grad = torch.randn_like(values)
    gradients = torch.autograd.grad(values, (x, kernel), grad)
    with torch.no_grad():
        close = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {}
        torch.testing.assert_close(conv2d(x, kernel, bias), values, **close)
        torch.testing.assert_close(conv2d(x, kernel), values - bias[:, None, None], **close)
        torch.testing.assert_close(conv2d_backward(grad, x, kernel, True), gradients, **close)
        of_x, of_kernel = conv2d_backward(grad, x, kernel, False)
        assert of_x is None
        torch.testing.assert_close(of_kernel, gradients[1], **close)


@pytest.mark.parametrize(
    ("name", "avx512", "forward", "backward"),
    [
        ("to few", False, "values", "gradients"),
        ("from few", False, "", "values"),
        ("many to some", False, "", "gradients"),
        ("few pixels", False, "", "gradients"),
        ("few pixels, many channels", False, "", "gradients"),
        ("few pixels, more channels", False, "", ""),
        ("neither", False, "", ""),
        ("to few", True, "values", "gradients"),
        ("from few", True, "", "values"),
        ("many to some", True, "", ""),
        ("few pixels", True, "", ""),
    ],
)
def test_products_of_matrices_are_for_few_channels_and_gradients_of_few_pixels(
    name: str, avx512: bool, forward: str, backward: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow_conv, "has_avx512", lambda: avx512)
    x, kernel, _ = drawn(name, torch.float32, torch.channels_last)
    called = []
    for what, function in ("values", "to_few_channels"), ("gradients", "gradients_by_products"):
        original = getattr(narrow_conv, function)
        monkeypatch.setattr(narrow_conv, function, lambda *a, w=what, f=original: called.append(w) or f(*a))
    values = conv2d(x, kernel)
    assert "".join(called) == forward
    called.clear()
    conv2d_backward(torch.ones_like(values), x, kernel, True)
    assert "".join(called) == backward


def test_compiled_networks_leave_convolutions_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel, _ = drawn("to few", torch.float32, torch.channels_last)
    assert narrow_conv.is_narrow(x, kernel, few=4, many=20)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert not narrow_conv.is_narrow(x, kernel, few=4, many=20)
