"""Names on a command line that look like numbers."""

from hydra.errors import HydraException

from flows.training.command.overrides import PARSER

NAMES = {
    "run_id",
    "ckpt",
    "small_ckpt",
    "stream",
    "latents",
    "attribute",
    "name",
    "data_root",
    "data.source.root",
    "data.source.source.root",
    "against.source.root",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
}
"""Settings whose values are text, even if they look like numbers."""

NAMES_OR_NULL = {
    "resume",
    "init_from",
    "out",
    "condition",
    "extra",
    "background",
    "per_image",
    "features.weights",
    "data.source.train",
    "data.source.val",
    "data.source.test",
    "against.source.train",
    "against.source.val",
    "against.source.test",
}
"""Settings whose values are text in the same way, except that null stays null."""


def as_text(argument: str) -> str:
    """Quote the value of `KEY=VALUE` if it is a name: Hydra would read 2024_11_25 as 20241125, and 1e3 as 1000.0."""
    start, _, text = argument.partition("=")
    key = start.lstrip("+")
    if key not in NAMES | NAMES_OR_NULL:
        return argument
    try:
        value = PARSER.parse_override(argument).value()
    except HydraException:  # Hydra will report it
        return argument
    is_other_than_text = isinstance(value, bool | int | float) or (value is None and key in NAMES)
    return f"{start}='{text.strip()}'" if is_other_than_text else argument
