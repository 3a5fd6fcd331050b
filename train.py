"""Train a flow, test it, and leave everything in one run folder.

Examples:
    python train.py                                          # Glow on Fashion-MNIST
    python train.py model=realnvp data=cifar10 trainer=gpu   # other choices; --help lists them
    python train.py experiment=digits                        # a trial of a few seconds
    python train.py run_id=mine resume=auto                  # start outputs/mine, or go on with it
    python train.py -m model.num_steps=8,16 optimizer.lr=1e-3,3e-4
"""

import logging
import os
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from flows.training import (
    LitFlow,
    RunSummary,
    Throughput,
    UnstoppableWandb,
    check_config,
    check_resume,
    check_same_settings,
    check_settings,
    check_tasks,
    checkpoint_to_resume,
    command,
    command_line,
    device_name,
    end_with_first_rank,
    find_resume,
    from_here,
    hold,
    is_sweep,
    keep_freed_memory,
    load_flow,
    override,
    read_summary,
    save_flow,
    set_tf32,
    was_requeued,
)

log = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*does not have many workers")  # images in memory need none
warnings.filterwarnings("ignore", message="The `srun` command is available")  # what would go wrong is refused
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run
warnings.filterwarnings("ignore", message="The dirpath has changed")  # resumed from the folder of another run
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)

SETTINGS = {"seed": int, "test": bool, "compile": bool, "allow_tf32": bool, "data_root": str, "run_dir": str}
SETTINGS |= dict.fromkeys(["data", "model", "optimizer", "training", "trainer", "callbacks", "logger"], Any)
SETTINGS |= dict.fromkeys(["run_id", "resume"], Any)
"""What a config has at its top, and of which type."""


@command_line("conf", "train")
def main(cfg: DictConfig) -> float:
    """Run one job; return its validation bits/dim for sweeps to compare."""
    end_with_first_rank()
    check_config(cfg)
    check_settings(cfg, SETTINGS)
    run_dir = Path(cfg.run_dir)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    resume = "auto" if cfg.resume is None and was_requeued() else cfg.resume
    if resume is None and any(run_dir.glob("checkpoints/**/*.ckpt")):
        raise FileExistsError(f"{run_dir} holds a run: go on with it by resume=auto, or give another run_id")
    if resume == "auto":
        check_same_settings(config, run_dir, strict=is_sweep())
        facts = read_summary(run_dir / "summary.json")
        if facts.get("status") == "completed":
            if cfg.test and "test_bits_per_dim" not in facts:
                raise ValueError(f"{run_dir} ended with test=false: its best model is tested by {how_to_test(run_dir)}")
            report(facts, run_dir)
            return facts["val_bits_per_dim"]
        resume = find_resume(run_dir)
    elif resume is not None:
        resume = checkpoint_to_resume(resume)

    summary = RunSummary(run_dir / "summary.json", resumed=resume is not None, seed=cfg.seed)
    with hold(run_dir), summary:
        set_tf32(cfg.allow_tf32)
        keep_freed_memory()
        L.seed_everything(cfg.seed, verbose=False)
        lit: LitFlow = instantiate(cfg.training, flow=instantiate(cfg.model))
        if resume is not None:
            check_resume(resume, lit.flow)
        trainer = build_trainer(cfg)
        refuse_parallel_jobs_in_a_sweep(trainer)
        best_checkpoint(trainer)
        check_tasks(trainer)
        device = device_name(trainer.strategy.root_device)
        if trainer.is_global_zero:
            log.info("training on %s, in %d process%s", device, trainer.world_size, "es" * (trainer.world_size > 1))
            OmegaConf.save(config, run_dir / "config.yaml")
        summary.update(
            parameters=sum(parameter.numel() for parameter in lit.flow.parameters()),
            dequantize=lit.flow.dequantize.noise_name,
            test_draws=lit.num_test_draws,
            test_seed=lit.eval_seed,
            device=device,
            ranks=trainer.world_size,
            nodes=trainer.num_nodes,
        )
        for logger in trainer.loggers:
            logger.log_hyperparams(config)
        try:
            summary.update(**train_and_test(trainer, lit, instantiate(cfg.data), resume, run_dir, cfg.test))
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


def how_to_test(run_dir: Path) -> str:
    """Return the command that tests the best model of a run on the data of this one."""
    data = []
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        told = [setting for setting in hydra.overrides.task if re.match("[+~]*data[._]", setting)]
        data = [f"data={hydra.runtime.choices['data']}", *map(shlex.quote, told)]
    return command("scripts/evaluate.py", override("ckpt", from_here(run_dir / "best.safetensors")), *data)


def build_trainer(cfg: DictConfig) -> L.Trainer:
    """Return the trainer with its callbacks and loggers.

    Raises:
        ValueError: if `trainer` is to have callbacks or loggers beside those of their groups.
    """
    for group in ("callbacks", "logger"):
        if group in cfg.trainer:
            raise ValueError(f"trainer.{group} is made from {group}: set {group}=null or {group}.NAME in its place")
    return instantiate(cfg.trainer, callbacks=objects(cfg.get("callbacks")), logger=objects(cfg.get("logger")))


def best_checkpoint(trainer: L.Trainer) -> ModelCheckpoint:
    """Return the callback that stores the model to test.

    Raises:
        ValueError: if there is none, or if it would store none, or several under one name.
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


def objects(group: DictConfig | None) -> list[Any]:
    """Instantiate a group of named objects, leaving out those set to null."""
    made = instantiate(group, _convert_="all") if group else {}
    for name, item in made.items():
        if isinstance(item, dict):
            raise ValueError(f"{name} among the callbacks or loggers needs a _target_, the name of its class")
    return [item for item in made.values() if item is not None]


def train_and_test(
    trainer: L.Trainer, lit: LitFlow, data: L.LightningDataModule, resume: Path | None, run_dir: Path, test: bool
) -> dict[str, Any]:
    """Fit, write the best weights to `best.safetensors`, test these if asked to, and return the results."""
    best = best_checkpoint(trainer)
    trainer.fit(lit, data, ckpt_path=resume)
    if best.best_model_score is None:
        raise RuntimeError(
            "no validation ran whose model callbacks.best stored, so there is no best model to test: give "
            "trainer.max_epochs or trainer.max_steps of at least 1, and more than a checkpoint has that is resumed from"
        )
    flow = load_flow(best.best_model_path)
    lit.flow.load_state_dict(flow.state_dict())
    if trainer.is_global_zero:
        save_flow(flow, run_dir / "best.safetensors")
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
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Throughput):
            results["images"] = callback.images
            results["images_per_second"] = callback.images_per_second
    return results


@rank_zero_only
def report(facts: dict[str, Any], run_dir: Path) -> None:
    """Say how the run ended, where its files are and what to try next."""
    folder = from_here(run_dir)
    names = "summary.json", "metrics.csv", "samples/", "reconstructions/", "real.png", "best.safetensors"
    there = ", ".join(name for name in names if (run_dir / name).exists())
    settings = override("ckpt", f"{folder}/best.safetensors"), override("out", f"{folder}/drawn")
    try_next = command("sample.py", *settings, "'temperature=[0.5,0.7,0.9]'")
    if "test_bits_per_dim" in facts:
        result = (
            f"{facts['test_bits_per_dim']:.4f} bits/dim ± {facts['test_standard_error']:.4f} on "
            f"{facts['test_images']:,} test images ({facts['test_draws']} draws of {facts['dequantize']} "
            f"noise each, seed {facts['test_seed']})"
        )
    else:
        result = f"{facts['val_bits_per_dim']:.4f} bits/dim in the best validation, the test set unread"
    print(
        f"\n{result}; {facts['parameters']:,} parameters, {facts['steps']:,} training steps.\n"
        f"Everything is in {folder}: {there}.\nTry next: {try_next}"
    )


if __name__ == "__main__":
    main()
