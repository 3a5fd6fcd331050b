"""What a resumed run does with settings that differ from its checkpoint: it obeys or refuses them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import OmegaConf

from flows.models.registry import default


class Effect(Enum):
    """What another value of a setting does to a resumed run."""

    REFUSED = auto()
    """It is refused: what was computed so far, or what was chosen as the best so far, depends on it."""
    TRAINING = auto()
    """It is obeyed: the remaining steps are different, or there are more of them."""
    TEST = auto()
    """It is obeyed: a finished run is tested again."""
    OBEYED = auto()
    """It is obeyed: a finished run needs no more work because of it."""


EFFECTS = {
    # The optimizer: its moments stay, so it must be the same one.
    "*optimizer._target_": Effect.REFUSED,
    "optimizer.*": Effect.TRAINING,
    "training.optimizer.*": Effect.TRAINING,
    "training.schedule.*": Effect.TRAINING,
    # Limits; the schedule follows them.
    "trainer.max_epochs": Effect.TRAINING,
    "trainer.min_epochs": Effect.TRAINING,
    "trainer.max_steps": Effect.TRAINING,
    "trainer.min_steps": Effect.TRAINING,
    "trainer.max_time": Effect.TRAINING,
    "callbacks.*.max_seconds": Effect.TRAINING,
    "callbacks.*.max_images": Effect.TRAINING,
    # Which images make a step, and which ones a validation.
    "trainer.accumulate_grad_batches": Effect.REFUSED,
    "trainer.limit_train_batches": Effect.REFUSED,
    "trainer.limit_val_batches": Effect.REFUSED,
    "trainer.overfit_batches": Effect.REFUSED,
    "trainer.limit_test_batches": Effect.TEST,
    "trainer.gradient_clip_*": Effect.TRAINING,
    # Precision, compilation, devices, machines, intervals of validating and logging.
    "trainer.*": Effect.OBEYED,
    # Counts and averages that begin with the run; what the best so far was chosen by.
    "callbacks.ema.*": Effect.REFUSED,
    "callbacks.throughput._target_": Effect.REFUSED,
    "callbacks.best.monitor": Effect.REFUSED,
    "callbacks.best.mode": Effect.REFUSED,
    "callbacks.*": Effect.OBEYED,
    "logger": Effect.OBEYED,
    "logger.*": Effect.OBEYED,
    "test": Effect.TEST,
    "training.num_test_draws": Effect.TEST,
    "training.seed": Effect.REFUSED,
    "training.eval_seed": Effect.REFUSED,
    "training.num_val_draws": Effect.REFUSED,
    "training.num_init_images": Effect.REFUSED,
    "training.label_dropout": Effect.REFUSED,
    "training.on_nonfinite": Effect.TRAINING,
    "training.*": Effect.OBEYED,
    "compile": Effect.OBEYED,
    "allow_tf32": Effect.OBEYED,
    "model.memory_flat": Effect.OBEYED,
    # Where the user's own modules are: what they build is compared.
    "imports": Effect.OBEYED,
    # The first weights; a resumed run has later ones.
    "init_*": Effect.OBEYED,
    # What sweeps compare finished runs by.
    "objective": Effect.OBEYED,
    # What a check reads.
    "check": Effect.OBEYED,
    "gpu_gib": Effect.OBEYED,
    "tflops": Effect.OBEYED,
    "network_gb": Effect.OBEYED,
    # Where files are, and how many images are loaded or evaluated at once.
    "data_root": Effect.OBEYED,
    "data.eval_batch_size": Effect.OBEYED,
    "data.num_workers": Effect.OBEYED,
    "data.pin_memory": Effect.OBEYED,
    "data.source.in_memory": Effect.OBEYED,
    "data.source.on_damaged": Effect.OBEYED,
    "data.source.index_dir": Effect.OBEYED,
    # Everything else: the model, the data, their order, the seed.
    "*": Effect.REFUSED,
}
"""The first pattern that fits a setting gives its effect."""

NOT_COMPARED = ("run_id", "run_dir", "resume")

RENAMED = {"model.memory_efficient": "model.memory_flat"}
"""Settings that have another name in earlier runs."""


@dataclass(frozen=True)
class Difference:
    """A setting that has changed."""

    key: str
    before: Any
    now: Any

    @property
    def effect(self) -> Effect:
        """Return what the difference does to a resumed run."""
        return next(effect for pattern, effect in EFFECTS.items() if fnmatchcase(self.key, pattern))

    def __str__(self) -> str:
        return f"{self.key} was {self.before} and is {self.now}"


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    """Return what differs between two configs, except the name of a run and the places of its folder and the data.

    A value that several settings share is named once, by the shortest of their keys.
    """
    old, new = {RENAMED.get(key, key): value for key, value in _leaves(before)}, dict(_leaves(now))
    found: dict[tuple[str, str], Difference] = {}
    for key in sorted({**new, **old}, key=lambda key: key.count(".")):
        one, other = old.get(key, unset(key, now)), new.get(key)
        if key not in NOT_COMPARED and one != other and _moved(one, before, now) != str(other):
            found.setdefault((key.rpartition(".")[2], f"{one} {other}"), Difference(key, one, other))
    return list(found.values())


def unset(key: str, config: dict[str, Any]) -> Any:
    """Return what a setting meant before it existed: the default of what is built from its group, None if unknown."""
    *groups, name = key.split(".")
    node: Any = config
    for group in groups:
        node = node.get(group) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return None
    if node.get("_target_") == "flows.build":
        return default(str(node.get("name")), name)
    try:
        found = signature(get_object(str(node["_target_"]))).parameters[name].default
    except (KeyError, ImportError, ValueError):
        return None
    return None if found is Parameter.empty else found


def check_same_settings(
    config: dict[str, Any], run_dir: Path, strict: bool, before: dict[str, Any] | None = None
) -> list[Difference]:
    """Compare a config with the config of the run's earlier part, and return what differs and is obeyed.

    Args:
        config: resolved.
        run_dir: of the run.
        strict: whether to refuse all settings that differ.
        before: the config of the earlier part, resolved; by default `config.yaml` of the folder. If there is neither,
            nothing is compared.

    Raises:
        ValueError: if a setting differs and is not obeyed; the message says which setting.
    """
    changed = differences(before, config) if before else changed_since(config, run_dir)
    refused = changed if strict else [difference for difference in changed if difference.effect is Effect.REFUSED]
    if refused:
        which = ", ".join(map(str, refused))
        raise ValueError(
            f"{run_dir} holds a job with other settings ({which}): a sweep goes on with the same command only, give "
            "this one another run_id"
            if strict
            else f"{run_dir} cannot go on with other settings of this kind ({which}): give the same ones, or start a "
            "new run by another run_id and without resume"
        )
    return changed


def changed_since(config: dict[str, Any], run_dir: Path) -> list[Difference]:
    """Return the differences from `config.yaml` of a folder, none if there is no such file."""
    before = read_config(run_dir)
    return differences(before, config) if before else []


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """Return `config.yaml` of a run, None if there is none."""
    path = run_dir / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else None
    return config


def _moved(value: Any, before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return a value as text; a path in the run or data folder of `before` is moved to the same folder of `now`."""
    text = str(value)
    for folder in ("run_dir", "data_root"):
        old, new = str(before.get(folder)), str(now.get(folder))
        if text == old or text.startswith(f"{old}/"):
            return new + text.removeprefix(old)
    return text


def _leaves(config: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
