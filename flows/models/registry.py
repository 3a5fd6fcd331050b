"""One way to build a model: a name and plain scalars, which a checkpoint can store."""

from collections.abc import Callable
from inspect import signature
from numbers import Integral, Real
from typing import Any

from flows.arguments import choose
from flows.image_flow import ImageFlow
from flows.memory.drift import train_memory_flat
from flows.models.glow import Glow
from flows.models.realnvp import RealNVP
from flows.models.tarflow import TarFlow

MODELS: dict[str, Callable[..., ImageFlow]] = {"glow": Glow, "realnvp": RealNVP, "tarflow": TarFlow}


def register(name: str, builder: Callable[..., ImageFlow]) -> None:
    """Make a model known to `build`, and so to the command line, as `model.name`.

    Args:
        name: of the model.
        builder: a class or function that returns a flow; it takes plain values by name.

    Raises:
        ValueError: if another model has this name.
    """
    if MODELS.setdefault(name, builder) is not builder:
        raise ValueError(f"there is a model {name!r} already: give this one another name")


def default(name: str, argument: str) -> Any:
    """Return the default of an argument of a model, None if it has none."""
    found = signature(MODELS[name]).parameters.get(argument) if name in MODELS else None
    value = None if found is None or found.default is found.empty else found.default
    return list(value) if isinstance(value, tuple) else value


def build(name: str, *, memory_flat: bool = False, **scalars: Any) -> ImageFlow:
    """Build a model and remember how: `build(**flow.spec)` builds it again.

    Args:
        name: "glow", "realnvp" or "tarflow".
        memory_flat: train in memory that does not grow with the number of steps, at the cost of more time per step. It
            changes no value, and is not kept in `flow.spec`.
        scalars: the arguments of the model's class: `flows.Glow`, `flows.RealNVP`, `flows.TarFlow`.

    Raises:
        ValueError: if the name, an argument or a value is not known, or if `memory_flat` is set and a layer has no
            exact inverse.
    """
    plain = {key: _plain(value) for key, value in scalars.items()}
    make = choose("model", MODELS, name)
    arguments = signature(make).parameters
    for key in plain:
        choose(f"an argument of {name}", {**arguments, "memory_flat": None}, key)
    missing = [key for key, argument in arguments.items() if argument.default is argument.empty and key not in plain]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}")
    flow = make(**plain)
    flow.spec = {"name": name, **plain}
    if memory_flat:
        train_memory_flat(flow)
    return flow


def _plain(value: Any) -> Any:
    """Return numbers of any kind, such as NumPy's, as Python's, and sequences as lists: a file can store them."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
