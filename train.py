"""Train a flow, test it, and leave everything in one run folder.

Examples:
    python train.py                                          # Glow on Fashion-MNIST
    python train.py model=realnvp data=cifar10 trainer=gpu   # other choices; --help lists them
    python train.py experiment=digits                        # a trial of a few seconds
    python train.py run_id=mine resume=auto                  # start outputs/mine, or go on with it
    python train.py -m model.num_steps=8,16 optimizer.lr=1e-3,3e-4
"""

import logging
import math
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from flows.training import (
    LitFlow,
    Provenance,
    RunSummary,
    Throughput,
    UnstoppableWandb,
    check_config,
    check_tasks,
    command_line,
    describe_data,
    end_with_first_rank,
    hold,
    is_first_rank,
    is_sweep,
    keep_freed_memory,
    load_flow,
    peek,
    project_version,
    read_summary,
    record_command,
    save_flow,
    set_tf32,
)
from flows.training.checkpoint_record import CheckpointRecord
from flows.training.going_on import asks_for_more, check_going_on, starting_point

log = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*does not have many workers")  # images in memory need none
warnings.filterwarnings("ignore", message="The `srun` command is available")  # what would go wrong is refused
warnings.filterwarnings("ignore", message=".*could not find the monitored key")  # resumed at the end of an epoch
warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # a callback that was left out
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)


@command_line("conf", "train")
def main(cfg: DictConfig) -> float:
    """Run one job; return its validation bits/dim for sweeps to compare."""
    end_with_first_rank()
    check_config(cfg)
    run_dir = Path(cfg.run_dir)
    with hold(run_dir):
        return run(cfg, run_dir)


def run(cfg: DictConfig, run_dir: Path) -> float:
    """Train in a folder that is held, or report what is there; nothing in it changes before it is clear that it may."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    if not str(cfg.run_id).strip("./ "):
        raise ValueError(f"run_id is {cfg.run_id!r}: give the run a name, or leave run_id out")
    facts = read_summary(run_dir / "summary.json") if cfg.resume == "auto" else {}
    is_complete = facts.get("status") == "completed"
    untested = cfg.test and "test_bits_per_dim" not in facts
    if is_complete and not untested and not asks_for_more(config, run_dir):
        report(facts, run_dir)
        return math.inf if facts["val_bits_per_dim"] is None else facts["val_bits_per_dim"]
    start = starting_point(cfg.resume, run_dir)
    if is_complete and start is None:
        raise FileNotFoundError(
            f"{run_dir} holds a complete run without a checkpoint to go on from: give another run_id"
        )
    summary = RunSummary(
        run_dir / "summary.json",
        resumed=start is not None,
        earlier=start and start.parent.parent / "summary.json",
        seed=cfg.seed,
    )
    with summary:
        if start is None and is_first_rank():
            record_command(run_dir, cfg)
        set_tf32(cfg.allow_tf32)
        keep_freed_memory()
        L.seed_everything(cfg.seed, verbose=False)
        lit: LitFlow = instantiate(cfg.training, flow=instantiate(cfg.model))
        provenance = Provenance(
            version=project_version(), git_commit=summary.facts["git_commit"], data=describe_data(config["data"])
        )
        callbacks = [CheckpointRecord(config, provenance), *objects(cfg.callbacks)]
        trainer: L.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=objects(cfg.logger))
        refuse_parallel_jobs_in_a_sweep(trainer)
        check_tasks(trainer)
        changed = [] if start is None else check_going_on(start, config, run_dir, lit, trainer)
        summary.update(
            parameters=sum(parameter.numel() for parameter in lit.flow.parameters()),
            dequantize=lit.flow.dequantize.noise_name,
            test_draws=lit.num_test_draws,
            test_seed=lit.eval_seed,
        )
        if start is not None:
            summary.update(
                first_step=peek(start)["global_step"],
                resumed_from=str(start),
                changed_settings={one.key: [one.before, one.now] for one in changed},
            )

        def begin(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            """Record the command: what may be refused has been restored."""
            if start is not None and trainer.is_global_zero:
                record_command(run_dir, cfg)
                if changed:
                    log.warning("%s goes on with other settings: %s", run_dir, ", ".join(map(str, changed)))
            summary.begin()
            for logger in trainer.loggers:
                logger.log_hyperparams(config)

        trainer.callbacks.insert(0, LambdaCallback(on_fit_start=begin))  # type: ignore[attr-defined]
        try:
            summary.update(**train_and_test(trainer, lit, instantiate(cfg.data), start, run_dir, cfg.test, provenance))
        finally:
            for logger in trainer.loggers:
                if isinstance(logger, UnstoppableWandb):
                    logger.finish(exit_code=int(sys.exc_info()[0] is not None))
    report(summary.facts, run_dir)
    return summary.facts["val_bits_per_dim"]


def refuse_parallel_jobs_in_a_sweep(trainer: L.Trainer) -> None:
    """Raise ValueError for a local sweep of multi-device jobs, whose ranks would each run the whole sweep."""
    if is_sweep() and trainer.world_size > 1 and os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        raise ValueError(
            "a sweep on one machine runs jobs on one device each: set trainer.devices=1, or send the jobs to SLURM by "
            "cluster=slurm"
        )


def objects(group: DictConfig | None) -> list[Any]:
    """Instantiate a group of named objects, leaving out those set to null."""
    made = instantiate(group, _convert_="all") if group else {}
    return [item for item in made.values() if item is not None]


def train_and_test(
    trainer: L.Trainer,
    lit: LitFlow,
    data: L.LightningDataModule,
    resume: Path | None,
    run_dir: Path,
    test: bool,
    provenance: Provenance,
) -> dict[str, Any]:
    """Fit, write the best weights to `best.safetensors`, test these if asked to, and return the results."""
    trainer.fit(lit, data, ckpt_path=resume)
    best = trainer.checkpoint_callback
    if not isinstance(best, ModelCheckpoint) or best.best_model_score is None:
        raise RuntimeError(
            "no validation ran, so there is no best model to test: give trainer.max_epochs or trainer.max_steps of at "
            "least 1, and leave callbacks.best in place"
        )
    flow, stored = load_flow(best.best_model_path, with_provenance=True)
    provenance = stored or provenance
    lit.flow.load_state_dict(flow.state_dict())
    if trainer.is_global_zero:
        save_flow(flow, run_dir / "best.safetensors", provenance)
    results = {
        "val_bits_per_dim": best.best_model_score.item(),
        "steps": trainer.global_step,
        "skipped_steps": lit.skipped_steps,
    }
    if test:
        trainer.test(lit, data, verbose=False)
        assert lit.test_average is not None
        results["test_bits_per_dim"] = lit.test_average.mean
        results["test_standard_error"] = lit.test_average.standard_error
        results["test_images"] = lit.test_average.num_images
        if trainer.is_global_zero:
            save_flow(flow, run_dir / "best.safetensors", replace(provenance, **lit.result("test")))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Throughput):
            results["images"] = callback.images
            results["images_per_second"] = callback.images_per_second
    return results


@rank_zero_only
def report(facts: dict[str, Any], run_dir: Path) -> None:
    """Say how the run ended, where its files are and what to try next."""
    folder = os.path.relpath(run_dir)
    python = "python" if which("python") == sys.executable else os.path.relpath(sys.executable)
    if "test_bits_per_dim" in facts:
        error = facts["test_standard_error"]
        result = (
            f"{shown(facts['test_bits_per_dim'])} bits/dim{'' if error is None else f' ± {error:.4f}'} on "
            f"{facts['test_images']:,} test images ({facts['test_draws']} draws of {facts['dequantize']} "
            f"noise each, seed {facts['test_seed']})"
        )
    else:
        result = f"{shown(facts['val_bits_per_dim'])} bits/dim in the best validation, the test set unread"
    print(
        f"\n{result}; {facts['parameters']:,} parameters, {facts['steps']:,} training steps.\n"
        f"Everything is in {folder}: summary.json, metrics.csv, samples/, reconstructions/, real.png, "
        f"best.safetensors.\n"
        f"Try next: {python} sample.py ckpt={folder}/best.safetensors 'temperature=[0.5,0.7,0.9]'"
    )


def shown(bits: float | None) -> str:
    """Return a result with few digits; None stands for one that is not finite."""
    return "infinitely many" if bits is None or not math.isfinite(bits) else f"{bits:.4f}"


if __name__ == "__main__":
    main()
