"""Names on a command line that look like numbers."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

NAMES = {
    "run_id",
    "ckpt",
    "small_ckpt",
    "data_root",
    "data.source.root",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
}
"""Settings whose values are text, whatever they look like."""

NAMES_OR_NULL = {
    "resume",
    "out",
    "condition",
    "features.weights",
    "data.source.train",
    "data.source.val",
    "data.source.test",
}
"""Likewise, but that null stays null."""


def as_text(argument: str) -> str:
    """Quote the value of `KEY=VALUE` where it is a name: Hydra would make 20241125 of 2024_11_25, and 1000.0 of 1e3."""
    start, _, text = argument.partition("=")
    key = start.lstrip("+")
    if key not in NAMES | NAMES_OR_NULL:
        return argument
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:  # which Hydra will tell of
        return argument
    is_other_than_text = isinstance(value, bool | int | float) or (value is None and key in NAMES)
    return f"{start}='{text.strip()}'" if is_other_than_text else argument
