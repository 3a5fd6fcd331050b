"""Settings of an optimizer: checks of their range, and what a resumed run does with them.

A resumed run takes the settings from its command, and the moments from the checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

MakeOptimizer = Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer]

NOT_NEGATIVE = ("lr", "weight_decay")
"""Settings of every optimizer."""


def check_groups(optimizer: Optimizer) -> None:
    """Raise ValueError for settings that torch does not check: not finite, or settings of single groups."""
    for group in optimizer.param_groups:
        for name, value in group.items():
            if isinstance(value, float) and not (math.isfinite(value) and (value >= 0 or name not in NOT_NEGATIVE)):
                raise ValueError(f"Invalid {name}: {value}")


def keep_settings(optimizer: Optimizer) -> None:
    """Let an optimizer keep its settings when it loads a state, except the learning rate, which a schedule sets."""
    optimizer.register_load_state_dict_pre_hook(_with_settings)


def _with_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    groups = []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        settings = {name: value for name, value in group.items() if name not in ("params", "lr")}
        groups.append({**saved, **settings})
    return {**state, "param_groups": groups}


def try_out(make: MakeOptimizer, named: Iterable[tuple[str, nn.Parameter]]) -> tuple[Optimizer, list[nn.Parameter]]:
    """Return an optimizer after one step, and its parameters: stand-ins with a single value for each parameter."""
    stand_ins = [(name, nn.Parameter(torch.zeros([1] * parameter.dim()))) for name, parameter in named]
    optimizer = make(stand_ins)
    for _, stand_in in stand_ins:
        stand_in.grad = torch.zeros_like(stand_in)
    optimizer.step()
    return optimizer, [stand_in for _, stand_in in stand_ins]


def check_optimizer(make: MakeOptimizer, named: Iterable[tuple[str, nn.Parameter]], state: Mapping[str, Any]) -> None:
    """Check that an optimizer can continue from a state: the groups and the remembered values must be the same.

    Args:
        make: named parameters to optimizer.
        named: the parameters.
        state: the state of the earlier optimizer.

    Raises:
        ValueError: if it cannot.
    """
    mine = try_out(make, named)[0].state_dict()
    sizes, saved_sizes = ([len(group["params"]) for group in groups["param_groups"]] for groups in (mine, state))
    remembered = {key for entries in mine["state"].values() for key in entries}
    saved = {key for entries in state["state"].values() for key in entries}
    if sizes != saved_sizes or (saved and remembered != saved):
        raise ValueError(
            f"the optimizer of the checkpoint has groups of {_list(saved_sizes)} parameters and remembers "
            f"{_list(sorted(saved))}, and this one has groups of {_list(sizes)} and remembers "
            f"{_list(sorted(remembered))}: give optimizer the same settings, or start a new run by another run_id and "
            "without resume"
        )


def _list(items: Iterable[object]) -> str:
    return ", ".join(map(str, items)) or "nothing"
