"""Configs are checked against the annotations of what they are handed to."""

import pytest
from omegaconf import OmegaConf

from flows.training import check_config


class Engine:
    def __init__(
        self, *, power: float, cylinders: list[int] | None = None, bore: tuple[float, float] = (1, 1), name: str = ""
    ) -> None: ...


class Sealed:
    def __init__(self, key: "Unknown") -> None: ...  # noqa: F821


ENGINE = {"_target_": f"{__name__}.Engine"}


@pytest.mark.parametrize(
    "cfg",
    [
        {},
        {**ENGINE, "power": 3},
        {**ENGINE, "power": 3.5, "cylinders": None},
        {**ENGINE, "power": "${horses}", "cylinders": [1, 2], "_partial_": True},
        {**ENGINE, "power": "???", "bore": [1.5, 2]},
        {"key": 1, "_target_": f"{__name__}.Sealed"},
        {"anything": "goes", "_target_": "builtins.dict"},
        {"days": 3, "_target_": "datetime.timedelta"},
    ],
)
def test_what_fits_passes(cfg: dict[str, object]) -> None:
    check_config(OmegaConf.create({"horses": 4, "car": {"engine": cfg}}))


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"power": "high"}, r"^car\.engine\.power should be a valid number, got 'high'$"),
        ({"power": True}, r"^car\.engine\.power should be a valid number, got True$"),
        ({"power": "${name}"}, r"^car\.engine\.power should be a valid number, got 'steam'$"),
        ({"cylinders": [1, "two"]}, r"^car\.engine\.cylinders should be a valid integer, got \[1, 'two'\]$"),
        ({"bore": ["wide", 2]}, r"^car\.engine\.bore should be a valid number, got \('wide', 2\)$"),
        ({"name": 3}, r"^car\.engine\.name should be a valid string, got 3$"),
        ({"powr": 3}, r"^car\.engine\.powr: Engine has no such argument \(did you mean 'power'\?\)$"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(engine: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(OmegaConf.create({"name": "steam", "car": {"engine": {**ENGINE, **engine}}}))


def test_objects_in_lists_are_checked_and_references_are_not_checked_twice() -> None:
    with pytest.raises(ValueError, match=r"^engines\.power should"):
        check_config(OmegaConf.create({"first": "${engines}", "engines": [{**ENGINE, "power": "high"}]}))
