"""Check the inputs of a flow, with messages that say what to do.

Shapes, dtypes, devices and presence are checked everywhere. Values (`check_label_values`, `check_position`) are checked
only where speed does not matter, because reading a value stalls a GPU and ends a compiled graph.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from operator import index
from typing import Any

import torch
from torch import Tensor

PRECISIONS = torch.float32, torch.float64
"""Precisions of a flow. In lower ones, the noise of bright grey levels is rounded away, and bits/dim is no bound."""

LABELS = torch.int64, torch.int32
"""The dtypes that labels may have."""

NUM_SEEDS = 2**32
"""How many seeds torch's generators tell apart: larger seeds would repeat the images of smaller ones."""


def describe(value: Any) -> str:
    """Return dtype and shape of a tensor, or a description of any other value."""
    if isinstance(value, int | float | str | None):
        return repr(value)
    kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
    return f"{kind} {tuple(value.shape)}" if hasattr(value, "shape") else kind


def check_precision(parameter: Tensor | None) -> None:
    """Raise ValueError unless a flow with this parameter is in float32 or float64."""
    if parameter is not None and parameter.dtype not in PRECISIONS:
        raise ValueError(
            f"a flow computes in float32 or float64, and this one is in {parameter.dtype}: take flow.float(), and "
            "torch.autocast to lower the precision of its networks alone"
        )


def check_place(name: str, given: Tensor, parameter: Tensor | None) -> None:
    """Raise ValueError unless a tensor is on the device, and in the precision, of a flow with this parameter."""
    if parameter is None:
        return
    if given.device != parameter.device:
        raise ValueError(f"{name} are on {given.device}, and the flow is on {parameter.device}: move one to the other")
    if given.is_floating_point() and given.dtype != parameter.dtype:
        raise ValueError(f"{name} are {given.dtype}, and the flow is {parameter.dtype}: take one to the other by .to()")


def check_images(images: Any, image_shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless these are uint8 images of this shape."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.shape[1:] != image_shape:
        expected = f"uint8 images (B, {', '.join(map(str, image_shape))})"
        steps = " and ".join(f"`{step}`" for step in _remedies(images, image_shape))
        remedy = f": take {steps}, whose values are 0 to 255" if steps else ""
        raise ValueError(f"the flow expects {expected}, got {describe(images)}{remedy}")
    if len(images) == 0:
        raise ValueError("the flow expects at least one image, got none")


def _remedies(images: Any, image_shape: tuple[int, int, int]) -> Iterable[str]:
    """Return the steps that turn `images` into what was expected, one after the other, as far as they are known."""
    if not isinstance(images, Tensor):
        yield "torch.as_tensor(images)"
    elif images.is_floating_point():
        yield "(255 * images).round().to(torch.uint8)"
    elif images.dtype == torch.bool:
        yield "255 * images.to(torch.uint8)"
    elif images.dtype != torch.uint8:
        yield "images.to(torch.uint8)"
    channels, height, width = image_shape
    shape = tuple(getattr(images, "shape", ()))
    if shape == image_shape:
        yield "images[None]"
    elif shape == (height, width, channels):
        yield "images.permute(2, 0, 1)[None]"
    elif shape[1:] == (height, width, channels):
        yield "images.permute(0, 3, 1, 2)"
    elif (1, *shape) == image_shape:
        yield "images[None, None]"
    elif (1, *shape[1:]) == image_shape:
        yield "images[:, None]"


def check_label(label: Any, num_classes: int | None, batch: Tensor) -> None:
    """Raise ValueError unless a flow with classes gets one label per image, and a flow without classes gets none."""
    if num_classes is None:
        if label is not None:
            raise ValueError("this flow was built without classes, num_classes=None: leave label out")
        return
    if not isinstance(label, Tensor) or label.dtype not in LABELS or label.shape != batch.shape[:1]:
        expected = f"torch.int64 ({len(batch)},)"
        raise ValueError(f"a class-conditional flow needs a label for each image, {expected}, got {describe(label)}")
    _check_device("label", label, batch.device)


def check_condition(condition: Any, condition_shape: Sequence[int] | None, batch: Tensor) -> None:
    """Raise ValueError unless a flow that reads conditions gets one per image, and any other flow gets none."""
    if condition_shape is None:
        if condition is not None:
            raise ValueError("this flow was built without a condition, condition_shape=None: leave the condition out")
        return
    shape = (len(batch), *condition_shape)
    if not isinstance(condition, Tensor) or condition.dtype != torch.uint8 or tuple(condition.shape) != shape:
        raise ValueError(
            f"the flow is conditioned on images, uint8 {shape}, one for each image: give them as condition, got "
            f"{describe(condition)}"
        )
    _check_device("condition", condition, batch.device)


def check_label_values(label: Tensor | None, num_classes: int | None) -> None:
    """Raise ValueError unless every label is a class of the flow."""
    if label is None or num_classes is None:
        return
    least, largest = int(label.min()), int(label.max())
    if least < 0 or largest >= num_classes:
        wrong = least if least < 0 else largest
        raise ValueError(f"labels of this flow are from 0 to {num_classes - 1}, got {wrong}")


def check_noise(noise: Any, images: Tensor) -> None:
    """Raise ValueError unless noise has one value for each value of the images."""
    if not isinstance(noise, Tensor) or noise.dtype not in PRECISIONS or noise.shape != images.shape:
        expected = f"torch.float32 or torch.float64 {tuple(images.shape)}"
        raise ValueError(f"noise has the shape of the images, {expected}, got {describe(noise)}")
    _check_device("noise", noise, images.device)


def check_position(noise: Any, images: Tensor) -> Tensor:
    """Return noise as a tensor: one number, or one value for each value of the images.

    Raises:
        ValueError: if noise is neither of these, or if a value is outside [0, 1).
    """
    position = torch.tensor(noise, dtype=torch.float64) if isinstance(noise, Real) else noise
    if not isinstance(position, Tensor) or position.dim() > 0:
        check_noise(position, images)
    if not ((position >= 0) & (position < 1)).all():
        least, largest = position.min().item(), position.max().item()
        raise ValueError(f"noise is at least 0 and below 1, got values from {least:g} to {largest:g}")
    return position


def check_latents(zs: Any, latent_shapes: Sequence[tuple[int, int, int]]) -> None:
    """Raise ValueError unless these are the latents of some images, all in one precision and on one device."""
    are_tensors = isinstance(zs, list | tuple) and all(isinstance(z, Tensor) for z in zs)
    if (
        not are_tensors
        or [tuple(z.shape[1:]) for z in zs] != list(map(tuple, latent_shapes))
        or zs[0].dtype not in PRECISIONS
        or len({(z.shape[:1], z.dtype, z.device) for z in zs}) != 1
        or len(zs[0]) == 0
    ):
        expected = ", ".join(f"(B, {', '.join(map(str, shape))})" for shape in latent_shapes)
        raise ValueError(
            f"the flow decodes a list of latents as encode returns them, finest first, {expected}, got "
            f"{', '.join(map(describe, zs)) if isinstance(zs, list | tuple) else describe(zs)}"
        )


def check_seeds(seeds: Any) -> list[int]:
    """Return the seeds as a list.

    Raises:
        ValueError: unless they are whole numbers that torch's generators tell apart.
    """
    try:
        numbers = [index(seed) for seed in seeds]
    except TypeError:
        raise ValueError(
            f"seeds are whole numbers, one for each image, such as range(16) or [3, 1, 4], got {describe(seeds)}"
        ) from None
    if not numbers:
        raise ValueError("seeds are one whole number for each image, got none")
    for number in numbers:
        if not 0 <= number < NUM_SEEDS:
            raise ValueError(f"a seed is a whole number from 0 to {NUM_SEEDS - 1}, got {number}")
    return numbers


def check_temperature(temperature: Any, name: str = "temperature") -> float:
    """Return the temperature as a number; errors call it by the name.

    Raises:
        ValueError: unless it is one finite number of at least 0.
    """
    try:
        number = math.nan if isinstance(temperature, str) else float(temperature)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is at least 0, got {describe(temperature)}: give one finite number")
    return abs(number)  # -0.0 becomes 0.0


def check_level_temperature(level_temperature: Any, num_levels: int) -> list[float]:
    """Return the temperature of each level; 1 for each if None.

    Raises:
        ValueError: unless there is one temperature per level.
    """
    if level_temperature is None:
        return [1.0] * num_levels
    listed = isinstance(level_temperature, list | tuple)
    if not listed or len(level_temperature) != num_levels:
        raise ValueError(
            f"level_temperature is a list of {num_levels} temperatures, one per level of this flow, finest first, got "
            f"{list(level_temperature) if listed else describe(level_temperature)}"
        )
    return [check_temperature(one, "a temperature of level_temperature") for one in level_temperature]


def check_angle(angle: Any) -> float:
    """Return an angle in degrees as a number.

    Raises:
        ValueError: unless it is between 0 and 90.
    """
    number = float(angle) if isinstance(angle, Real) else math.nan
    if not 0 <= number <= 90:
        raise ValueError(f"angle is between 0 and 90 degrees, got {describe(angle)}")
    return number


def check_guidance(guidance: Any) -> float:
    """Return the weight of guidance as a number.

    Raises:
        ValueError: unless it is one finite number of at least 0.
    """
    try:
        number = float(guidance) if isinstance(guidance, Real) else math.nan
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ValueError(f"guidance is one finite number of at least 0, got {describe(guidance)}")
    return number


def check_several(name: str, value: Any, check: Callable[[Any], float]) -> list[float]:
    """Return one number, or several, as a list.

    Args:
        name: of the value.
        value: a number or a list of numbers.
        check: returns one of them, or raises ValueError.

    Raises:
        ValueError: unless `check` accepts each, there is at least one, and all differ.
    """
    several = value if isinstance(value, list | tuple) else [value]
    found = [check(one) for one in several]
    if not found or len({*found}) < len(found):
        raise ValueError(f"{name} is a number, or a list of numbers that all differ, got {value}")
    return found


def _check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, and the batch on {device}: take {name}.to('{device}')")
