"""Checking the arguments of models, with messages that say what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class UnknownChoiceError(ValueError):
    """A choice that does not exist."""

    def __init__(self, option: str, choices: Iterable[str], name: str) -> None:
        super().__init__(f"{option} is one of {', '.join(choices)}; got {name!r}{did_you_mean(name, choices)}")
        self.option, self.name = option, name


def choose(option: str, choices: Mapping[str, T], name: str) -> T:
    """Return `choices[name]`.

    Raises:
        UnknownChoiceError: if there is no such choice; the message names the option, the nearest name and all names.
    """
    if isinstance(name, str) and name in choices:
        return choices[name]
    raise UnknownChoiceError(option, choices, name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint to be put behind `name`: the known name that is nearest to it; empty if no known name is near."""
    nearest = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def require_positive(**values: int) -> None:
    """Raise ValueError, naming the argument, unless all values are whole numbers of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is a whole number of at least 1, got {value!r}")


def check_image_shape(
    image_shape: Sequence[int], num_halvings: int, because: str = "num_levels"
) -> tuple[int, int, int]:
    """Return (C, H, W) if H and W can be halved `num_halvings` times.

    Args:
        image_shape: (C, H, W).
        num_halvings: how many times.
        because: the argument of the model that asks for them.

    Raises:
        ValueError: if they cannot; the message states the nearest sizes that can be halved.
    """
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) != 3 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        got = sizes or image_shape
        raise ValueError(f"image_shape is three positive whole numbers (C, H, W), got {got!r}")
    channels, *sides = sizes
    factor = 2**num_halvings
    for side in sides:
        if side % factor:
            below = side // factor * factor
            nearest = f"{below} or {below + factor}" if below else f"{factor}"
            raise ValueError(
                f"this {because} needs H and W divisible by {factor}, got {sides[0]}x{sides[1]}: "
                f"choose a smaller {because}, or images of {nearest} pixels in place of {side}"
            )
    return channels, sides[0], sides[1]
