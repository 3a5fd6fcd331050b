"""Train a flow, test it, and write everything into one run folder.

Examples:
    python train.py                                          # Glow on Fashion-MNIST
    python train.py model=realnvp data=cifar10 trainer=gpu   # other choices; --help lists them
    python train.py experiment=digits                        # a trial of a few seconds
    python train.py experiment=glow_cifar10 trainer=gpu check=true   # what this would take; one step, nothing is kept
    python train.py run_id=mine resume=auto                  # start outputs/mine, or continue it
    python train.py -m model.num_steps=8,16 optimizer.lr=1e-3,3e-4
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

try:
    from hydra.utils import instantiate
    from omegaconf import DictConfig, OmegaConf

    from flows import __version__, training
    from flows.training.command.command_line import command_line
    from flows.warm_start import WarmStart, new_parts, warm_start
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: in the folder of train.py, run {sys.executable} -m pip install --editable '.[train]'")

if TYPE_CHECKING:  # importing Lightning takes seconds, and --help does not need it
    import lightning as L

log = logging.getLogger(__name__)
warnings.filterwarnings("ignore", message=".*does not have many workers")  # images in memory need no workers
warnings.filterwarnings("ignore", message="The `srun` command is available")  # wrong use is refused elsewhere
warnings.filterwarnings("ignore", message=".*could not find the monitored key")  # resumed at the end of an epoch
warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # a callback that was left out
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run
warnings.filterwarnings("ignore", message="The dirpath has changed")  # resumed from the folder of another run
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)

SETTINGS = {
    "seed": int,
    "test": bool,
    "compile": bool,
    "allow_tf32": bool,
    "data_root": str,
    "run_dir": str,
    "init_strict": bool,
    "check": bool,
    "gpu_gib": float,
    "tflops": float,
    "network_gb": float,
}
SETTINGS |= dict.fromkeys(["data", "model", "optimizer", "training", "trainer", "callbacks", "logger"], Any)
SETTINGS |= dict.fromkeys(["run_id", "resume", "init_from", "init_skip", "imports", "objective"], Any)
"""The settings at the top of a config, and their types."""


@command_line("conf", "train")
def main(cfg: DictConfig) -> float:
    """Run one job. Return the result by which sweeps compare jobs: by default its validation bits/dim."""
    training.end_with_first_rank()
    training.check_config(cfg)
    training.check_settings(cfg, SETTINGS)
    if not str(cfg.run_id).strip("./ "):
        raise ValueError(f"run_id is {cfg.run_id!r}: give the run a name, or leave run_id out")
    run_dir = Path(cfg.run_dir)
    if cfg.check:
        check(cfg)
        return 0.0
    try:
        with training.hold_run_folder(run_dir):
            facts = run(cfg, run_dir)
    except training.Pruned as pruned:
        return pruned.value
    if training.is_first_rank():
        training.report(facts, run_dir)
    return training.objective(cfg.objective, facts)


def check(cfg: DictConfig) -> None:
    """Say what a run would take, and take one step of it, without storing anything.

    If the GPUs that the config asks for are not here, or a CPU has too little memory, no step is taken.

    Raises:
        ValueError: if the command would resume a run, or if the GPUs that are not here would be too small.
    """
    from lightning import seed_everything

    if cfg.resume is not None:
        raise ValueError("check=true checks a new run: leave resume out")
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup()
    plan = training.forecast(cfg, len(data.train_set))
    data.check_shares(plan.devices)
    is_first = training.is_first_rank()
    if is_first:
        sets = ", ".join(f"{len(images):,} {name}" for name, images in data.sets.items())
        print(f"images                       {sets}", *plan.lines(), sep="\n")
    if why := training.why_no_step(cfg, plan):
        if is_first:
            print(f"no step: {why}")
        return
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    training.set_tf32(cfg.allow_tf32)
    seed_everything(cfg.seed, verbose=False)
    lit, _ = build_lit(cfg)
    callbacks, rehearsal = instantiate_all(cfg.get("callbacks")), training.Rehearsal()
    quality = quality_of(callbacks)
    training.check_objective(cfg.objective, quality, lit.flow.num_classes, data)
    if quality is not None:
        quality.check(lit.flow)
        quality.check_images(data)
    with TemporaryDirectory() as folder:
        taking_part = training.for_rehearsal([*callbacks, rehearsal], Path(folder))
        trainer = instantiate(cfg.trainer, callbacks=taking_part, default_root_dir=folder, **training.ONE_STEP)
        training.check_tasks(trainer)
        trainer.fit(lit, data)
    if trainer.is_global_zero:
        print(*rehearsal.lines(trainer, lit), sep="\n")
        print("nothing of this is kept; leave check=true out to train")


def run(cfg: DictConfig, run_dir: Path) -> dict[str, Any]:
    """Train in a run folder that is locked, and return the facts of its summary.

    If the run is complete, return the facts that are there. Nothing in the folder changes before it is clear that this
    command may train there.
    """
    from lightning import seed_everything
    from lightning.pytorch.callbacks import LambdaCallback

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # importing Lightning sets another level
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    facts = training.read_summary(run_dir / "summary.json") if cfg.resume == "auto" else {}
    is_complete = facts.get("status") == "completed"
    untested = cfg.test and "test_bits_per_dim" not in facts
    if is_complete and not untested and not training.asks_for_more(config, run_dir):
        return facts
    start = training.starting_point(cfg.resume, run_dir)
    if is_complete and start is None:
        raise FileNotFoundError(
            f"{run_dir} holds a complete run without a checkpoint to go on from: give another run_id"
        )
    summary = training.RunSummary(
        run_dir / "summary.json",
        resumed=start is not None,
        earlier=start and training.run_of(start) / "summary.json",
        seed=cfg.seed,
    )
    with summary:
        if start is None and training.is_first_rank():
            training.record_command(run_dir, cfg)
        training.set_tf32(cfg.allow_tf32)
        seed_everything(cfg.seed, verbose=False)
        lit, found = build_lit(cfg, resumes=start is not None)
        if found is not None:
            summary.update(init_from=found.source, taken_weights=len(found.taken), new_weights=found.new)
            if training.is_first_rank():
                log.info("%s", found)
        provenance = training.Provenance(
            version=__version__,
            git_commit=summary.facts["git_commit"],
            data=training.describe_data(config["data"]),
        )
        trainer = build_trainer(cfg, training.CheckpointRecord(config, provenance))
        refuse_parallel_jobs_in_a_sweep(trainer)
        training.best_checkpoint(trainer)
        training.check_tasks(trainer)
        quality = quality_of(trainer.callbacks)  # type: ignore[attr-defined]
        training.check_objective(cfg.objective, quality, lit.flow.num_classes)
        changed = [] if start is None else training.check_going_on(start, config, run_dir, lit, trainer)
        device = training.device_name(trainer.strategy.root_device)
        if trainer.is_global_zero:
            log.info("training on %s, in %d process%s", device, trainer.world_size, "es" * (trainer.world_size > 1))
        summary.update(
            parameters=sum(parameter.numel() for parameter in lit.flow.parameters()),
            num_bits=lit.flow.dequantize.num_bits,
            num_classes=lit.flow.num_classes,
            condition_shape=lit.flow.condition_shape,
            dequantize=lit.flow.dequantize.noise_name,
            test_draws=lit.num_test_draws,
            test_seed=lit.eval_seed,
            device=device,
            ranks=trainer.world_size,
            nodes=trainer.num_nodes,
        )
        if start is not None:
            summary.update(
                first_step=training.peek(start)["global_step"],
                resumed_from=str(start),
                changed_settings={one.key: [one.before, one.now] for one in changed},
            )

        def check_classes(trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            """Check that the run will measure its objective. At this point the classes of the data are known."""
            data = trainer.datamodule  # type: ignore[attr-defined]
            training.check_objective(cfg.objective, quality, lit.flow.num_classes, data)

        def begin(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            """Record the command. At this point the checkpoint is restored, so the run cannot be refused any more."""
            if start is not None and trainer.is_global_zero:
                training.record_command(run_dir, cfg)
                if changed:
                    log.warning("%s goes on with other settings: %s", run_dir, ", ".join(map(str, changed)))
            summary.begin()
            for logger in trainer.loggers:
                logger.log_hyperparams(config)

        trainer.callbacks.insert(0, LambdaCallback(setup=check_classes, on_fit_start=begin))  # type: ignore[attr-defined]
        try:
            summary.update(**train_and_test(trainer, lit, instantiate(cfg.data), start, run_dir, cfg.test, provenance))
        finally:
            for logger in trainer.loggers:
                if isinstance(logger, training.UnstoppableWandb):
                    logger.finish(exit_code=int(isinstance(sys.exc_info()[1], Exception)))
    return summary.facts


def build_lit(cfg: DictConfig, resumes: bool = False) -> tuple[training.LitFlow, WarmStart | None]:
    """Return the flow with its training, and what it took from the weights that a new run starts from.

    Raises:
        ValueError: if the config says what to take, but not from where.
    """
    lit: training.LitFlow = instantiate(cfg.training, flow=instantiate(cfg.model))
    if cfg.init_from is None and (not cfg.init_strict or cfg.init_skip):
        raise ValueError("init_strict and init_skip say what to take from init_from: give init_from, too")
    if resumes or cfg.init_from is None:
        return lit, None
    skip: Any = OmegaConf.to_object(cfg.init_skip) if OmegaConf.is_config(cfg.init_skip) else cfg.init_skip
    found = warm_start(lit.flow, cfg.init_from, strict=cfg.init_strict, skip=skip)
    lit.parts_to_initialize = new_parts(lit.flow, found)
    return lit, found


def refuse_parallel_jobs_in_a_sweep(trainer: L.Trainer) -> None:
    """Raise ValueError for a local sweep of multi-device jobs, because each rank would run the whole sweep."""
    if training.is_sweep() and trainer.world_size > 1 and os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        raise ValueError(
            "a sweep on one machine runs jobs on one device each: set trainer.devices=1, or send the jobs to SLURM by "
            "cluster=slurm"
        )


def build_trainer(cfg: DictConfig, *first: L.Callback) -> L.Trainer:
    """Return the trainer with its loggers and callbacks. The callbacks `first` come before those of the config.

    Raises:
        ValueError: if the config of `trainer` itself has callbacks or loggers.
    """
    for group in ("callbacks", "logger"):
        if group in cfg.trainer:
            raise ValueError(f"trainer.{group} is made from {group}: set {group}=null or {group}.NAME in its place")
    callbacks = [*first, *instantiate_all(cfg.get("callbacks"))]
    return instantiate(cfg.trainer, callbacks=callbacks, logger=instantiate_all(cfg.get("logger")))


def instantiate_all(group: DictConfig | None) -> list[Any]:
    """Instantiate a group of named objects, but leave out those that are set to null."""
    made = instantiate(group, _convert_="all") if group else {}
    for name, item in made.items():
        if isinstance(item, dict):
            raise ValueError(f"{name} among the callbacks or loggers needs a _target_, the name of its class")
    return [item for item in made.values() if item is not None]


def train_and_test(
    trainer: L.Trainer,
    lit: training.LitFlow,
    data: L.LightningDataModule,
    resume: Path | None,
    run_dir: Path,
    test: bool,
    provenance: training.Provenance,
) -> dict[str, Any]:
    """Train, write the best weights to `best.safetensors`, test them if `test` is true, and return the results."""
    best = training.best_checkpoint(trainer)
    trainer.fit(lit, data, ckpt_path=resume)
    if best.best_model_score is None:
        raise RuntimeError(
            "no validation ran whose model callbacks.best stored, so there is no best model to test: give "
            "trainer.max_epochs or trainer.max_steps of at least 1, and more than a checkpoint has that is resumed from"
        )
    training.set_tf32(False)  # what follows has full precision, as the commands on a stored flow have
    flow, stored = training.load_flow(best.best_model_path, with_provenance=True)
    provenance = stored or provenance
    lit.flow.load_state_dict(flow.state_dict())
    if trainer.is_global_zero:
        training.save_flow(flow, run_dir / "best.safetensors", provenance)
    results: dict[str, Any] = {
        "val_bits_per_dim": best.best_model_score.item(),
        "steps": trainer.global_step,
        "skipped_steps": lit.skipped_steps,
    }
    if quality := quality_of(trainer.callbacks):  # type: ignore[attr-defined]
        found = quality.measured(trainer, lit.flow.to(trainer.strategy.root_device))
        results |= {f"val_{name}": value for name, value in found.items()} | {"val_samples": quality.about}
    if test:
        trainer.test(lit, data, verbose=False)
        assert lit.test_average is not None
        results["test_bits_per_dim"] = lit.test_average.mean
        results["test_standard_error"] = lit.test_average.standard_error
        results["test_images"] = lit.test_average.num_images
        if trainer.is_global_zero:
            training.save_flow(flow, run_dir / "best.safetensors", replace(provenance, **lit.result("test")))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, training.Throughput):
            results["images"] = callback.images
            results["images_per_second"] = callback.images_per_second
    return results


def quality_of(callbacks: Sequence[L.Callback]) -> training.Quality | None:
    """Return the callback that measures samples, or None if there is none."""
    return next((one for one in callbacks if isinstance(one, training.Quality)), None)


if __name__ == "__main__":
    main()
