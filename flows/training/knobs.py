"""How samples are drawn: temperature and guidance."""

from collections.abc import Sequence
from typing import NamedTuple

from flows.check_inputs import check_guidance, check_level_temperature, check_several, check_temperature


class Knobs(NamedTuple):
    """Arguments of `ImageFlow.sample` that change what samples look like, by the same names."""

    temperature: float = 1.0
    guidance: float = 0.0
    level_temperature: tuple[float, ...] | None = None

    def __str__(self) -> str:
        said = [f"temperature {text(self.temperature)}"]
        if self.guidance:
            said.append(f"guidance {text(self.guidance)}")
        if self.level_temperature is not None:
            said.append(f"level temperatures {' '.join(map(text, self.level_temperature))}")
        return ", ".join(said)

    @property
    def folder(self) -> str:
        """The name of a folder for such samples, different from that of all others."""
        return str(self).replace(", ", "-").replace("level temperatures", "levels").replace(" ", "-")


def all_knobs(
    temperature: float | Sequence[float],
    guidance: float | Sequence[float] = 0.0,
    level_temperature: Sequence[float] | None = None,
) -> list[Knobs]:
    """Return the knobs for each guidance with each temperature.

    Raises:
        ValueError: if a number is out of range, or if two of a list are the same.
    """
    temperatures = check_several("temperature", temperature, check_temperature)
    guidances = check_several("guidance", guidance, check_guidance)
    if level_temperature is not None:
        check_level_temperature(level_temperature, len(level_temperature))
    levels = None if level_temperature is None else tuple(level_temperature)
    return [Knobs(one, weight, levels) for weight in guidances for one in temperatures]


def text(number: float) -> str:
    """Return a number with enough digits to be different from all other numbers."""
    return repr(float(number)).removesuffix(".0")
