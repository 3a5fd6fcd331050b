"""The checkpoints of a run: which checkpoint to resume from."""

import logging
from collections.abc import Iterable
from pathlib import Path

from flows.files import PRETRAINED, CheckpointError, meant, peek, read_ckpt
from flows.image_flow import ImageFlow
from flows.models.registry import default

log = logging.getLogger(__name__)


def find_resume(run_dir: str | Path) -> Path | None:
    """Return the newest checkpoint of a run that loads, or None; newer ones that do not are named in a warning."""
    return newest_checkpoint(checkpoints(run_dir))


def checkpoints(run_dir: str | Path) -> list[Path]:
    """Return the checkpoints of a run."""
    return sorted(Path(run_dir).glob("checkpoints/**/*.ckpt"))


def run_of(checkpoint: str | Path) -> Path:
    """Return the folder of the run that stored a checkpoint, at any depth of its `checkpoints/`."""
    path = Path(checkpoint).absolute()
    return next((folder.parent for folder in path.parents if folder.name == "checkpoints"), path.parent.parent)


def newest_checkpoint(paths: Iterable[Path], before_step: int | None = None) -> Path | None:
    """Return the checkpoint with the most steps that loads; those that do not load are named in a warning.

    At the same step, it is `last.ckpt`, because `best.ckpt` is stored during a validation. (The time of a file does not
    help: a copy has the time at which it was copied.)

    Args:
        paths: of checkpoints.
        before_step: if given, checkpoints with this many steps or more, or that cannot be read, are left out.
            Checkpoints of weights only are left out in any case.
    """
    steps = {path: _step(path) for path in paths if not _holds_weights_only(path)}
    for path in sorted(steps, key=lambda path: (steps[path], path.name == "last.ckpt"), reverse=True):
        if before_step is None or steps[path] < before_step:
            try:
                read_ckpt(path)
            except CheckpointError as error:
                log.warning("Not resuming from %s", error)
            else:
                return path
    return None


def _step(path: Path) -> float:
    """Return the steps that a checkpoint has taken; infinity if it cannot be read, so that it is reported first."""
    try:
        return peek(path)["global_step"]
    except (CheckpointError, KeyError, TypeError):
        return float("inf")


def _holds_weights_only(path: Path) -> bool:
    """Return whether a file can be read and has no state of an optimizer, from which a run could go on."""
    try:
        return path.suffix == ".safetensors" or "optimizer_states" not in peek(path)
    except (CheckpointError, TypeError):
        return False


def checkpoint_to_resume(told: object) -> Path:
    """Return the checkpoint that `resume=` means: a `.ckpt` file, or the newest good checkpoint of a run's folder.

    Raises:
        CheckpointError: if there is none; the message says what to give.
    """
    advice = (
        "give resume=auto to go on in the run's own folder, the path of a .ckpt file or of a run's folder, or "
        "resume=null to start from the beginning"
    )
    if not isinstance(told, str) or not told:
        raise CheckpointError(f"resume={str(told).lower()} does not say from where: {advice}")
    path = Path(told).expanduser()
    if path.is_dir():
        newest = find_resume(path.parent if path.name == "checkpoints" else path)
        if newest is None:
            raise CheckpointError(f"{path} is a folder without a checkpoint that loads in it: {advice}")
        return newest
    if not path.exists() and told not in PRETRAINED:
        raise CheckpointError(f"{path} does not exist{meant(path, 'auto')}: {advice}")
    return path if path.exists() else PRETRAINED[told]


def check_resume(path: str | Path, flow: ImageFlow) -> None:
    """Check that a run of `flow` can go on from a checkpoint.

    Raises:
        CheckpointError: if the file does not load, or holds weights only or another model; the message says what
            differs.
    """
    if _holds_weights_only(Path(path)):
        raise CheckpointError(
            f"{path} holds weights only, to sample from and to evaluate, and no run can go on from them: give a .ckpt "
            "file of the run, from its folder checkpoints, that holds the state of the optimizer, too"
        )
    there, _, _ = read_ckpt(path)
    keys, model = {**there, **flow.spec}, flow.spec.get("name", "")
    values = {key: [spec.get(key, default(model, key)) for spec in (there, flow.spec)] for key in keys}
    differences = [f"{key} is {one} there and {other} here" for key, (one, other) in values.items() if one != other]
    if differences:
        raise CheckpointError(f"{path} holds another model, give the same settings to go on: {', '.join(differences)}")
