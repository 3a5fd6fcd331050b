"""Tensors without values on devices that this machine need not have. They show what was made on a wrong device."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import flows
from flows import image_flow
from flows.bijections import mixture

GOES_BACK = "meta"
"""The device for backward passes. If torch was built for GPUs, a backward pass on a fake GPU would need a real GPU."""

DEVICES = "cuda", GOES_BACK


def move(module: nn.Module, mode: FakeTensorMode, device: str) -> None:
    """Replace parameters and buffers by fakes on a device, like `module.to(device)`. All other tensors stay."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = mode.from_tensor(parameter).detach().to(device)
                part._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer).to(device)


def assert_holds_on(device: str, flow: flows.ImageFlow, monkeypatch: pytest.MonkeyPatch, batch_size: int = 3) -> None:
    """Move a flow to a fake device, and check there all that flows do, in the precision of the flow."""
    monkeypatch.setattr(image_flow, "check_label_values", lambda label, num_classes: None)  # fakes have no values
    monkeypatch.setattr(mixture, "places", lambda mask: torch.arange(len(mask), device=mask.device))
    monkeypatch.setattr(mixture, "MOST_STEPS", 3)
    dtype = next(flow.parameters()).dtype

    def is_there(*tensors: Tensor | None, dtype: torch.dtype = dtype) -> bool:
        return all(it is not None and it.device.type == device and it.dtype == dtype for it in tensors)

    with FakeTensorMode() as mode:
        move(flow, mode, device)

        def grey(shape: tuple[int, ...]) -> Tensor:
            return torch.randint(0, 256, (batch_size, *shape), dtype=torch.uint8, device=device)

        images, given = grey(flow.image_shape), {}
        if flow.num_classes is not None:
            given["label"] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        if flow.condition_shape is not None:
            given["condition"] = grey(flow.condition_shape)

        log_prob = flow.log_prob(images, **given)
        assert log_prob.shape == (batch_size,) and is_there(log_prob)
        if device == GOES_BACK:
            log_prob.sum().backward()
            assert is_there(*(parameter.grad for parameter in flow.parameters()))
            return
        flows.initialize(flow, images, given.get("label"), None, given.get("condition"))
        zs = flow.encode(images, **given)
        assert [tuple(z.shape[1:]) for z in zs] == flow.latent_shapes and is_there(*zs)
        for made in flow.decode(zs, **given), flow.sample(range(batch_size), 0.7, **given):
            assert made.shape == images.shape and is_there(made, dtype=torch.uint8)
