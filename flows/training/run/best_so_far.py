"""The best model so far: what stores it, and how a resumed run keeps it, also in another folder."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from flows.files import CheckpointError, peek
from flows.whole_file import whole_file


def best_checkpoint(trainer: L.Trainer) -> ModelCheckpoint:
    """Return the callback that stores the model to test.

    Raises:
        ValueError: if there is no such callback, or if it would store no model, or several models under one name.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "val/bits_per_dim":
            break
    else:
        raise ValueError(
            "the model to test is the one that callbacks.best stores, by monitor=val/bits_per_dim: leave it in place, "
            "and add others beside it by +callbacks.NAME"
        )
    if callback.save_top_k == 0 or callback.save_weights_only or callback.mode != "min":
        raise ValueError(
            "callbacks.best stores the model to test, the one of the fewest bits/dim, with its averaged weights: leave "
            "out save_top_k=0, save_weights_only=true and mode=max"
        )
    if callback.save_top_k != 1 and "{" not in (callback.filename or "{}"):
        raise ValueError(
            f"callbacks.best.save_top_k={callback.save_top_k} stores several models, which need names of their own: "
            "give \"callbacks.best.filename='best-{step}'\", with all its quotes"
        )
    return callback


def keep_best(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Tell the trainer's ModelCheckpoints, before they are restored, where the files that they have stored are now.

    (Lightning forgets the best score if the folder has another name.) Files that are still in another folder are
    copied. If a file is gone, or was overwritten after the checkpoint was stored, the search for the best model starts
    again.

    Args:
        trainer: the trainer that resumes.
        checkpoint: the checkpoint that it resumes from.
    """
    states = checkpoint.get("callbacks") or {}
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or callback.dirpath is None:
            continue
        state = states.pop(callback.state_key, None) or _of_the_same_monitor(states, callback.monitor)
        if state is None:
            continue
        places = {path: _place(path, state["dirpath"], str(callback.dirpath)) for path in state["best_k_models"]}
        if all(_bring(trainer, path, place, checkpoint["global_step"]) for path, place in places.items()):
            states[callback.state_key] = _moved(state, str(callback.dirpath))


def _of_the_same_monitor(states: dict[str, Any], monitor: str | None) -> dict[str, Any] | None:
    """Return the state of a ModelCheckpoint that has monitored the same value, but at other times."""
    same = (state for state in states.values() if monitor is not None and state.get("monitor") == monitor)
    return next(same, None)


def _place(path: str, old: str, new: str) -> Path:
    """Return the path in the folder `new` for a file of the folder `old`."""
    inside = Path(path).is_relative_to(old)
    return Path(new) / (Path(path).relative_to(old) if inside else Path(path).name)


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    def moved(path: str) -> str:
        return str(_place(path, state["dirpath"], folder)) if path else path

    return {
        **state,
        "dirpath": folder,
        "best_k_models": {moved(path): score for path, score in state["best_k_models"].items()},
        **{key: moved(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")},
    }


def _bring(trainer: L.Trainer, path: str, place: Path, step: int) -> bool:
    """Copy a file to its place if it is not there yet; return whether it was stored no later than a step."""
    beside = Path(str(trainer.ckpt_path)).parent / place.name
    source = next((file for file in (place, beside, Path(path)) if file.exists()), place)
    try:
        is_older = peek(source)["global_step"] <= step
    except (CheckpointError, KeyError):
        return False
    if is_older and source != place and trainer.is_global_zero:
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as partial:
            shutil.copy(source, partial)
    return is_older
