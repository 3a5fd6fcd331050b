"""Training and evaluation steps of a flow."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from torch import Tensor, nn
from torch.optim import Optimizer

from flows.arguments import choose, require_positive
from flows.autocast import full_precision
from flows.files import SPEC_KEY
from flows.image_flow import ImageFlow
from flows.initialize import initialize
from flows.likelihood import bits_per_dim, mean_bits_per_dim
from flows.memory.drift import DRIFT_LIMIT, largest_drift, least_exact
from flows.noise import uniform_noise
from flows.training.callbacks.throughput import Throughput
from flows.training.command.overrides import override
from flows.training.given import check_conditions, given, given_log_probs
from flows.training.machine.precision import check_precision
from flows.training.machine.ranks import mean_over_ranks
from flows.training.metric import Average, ImageAverage
from flows.training.optimizers.schedule import Scheduled
from flows.training.optimizers.settings import check_groups, keep_settings
from flows.training.run.checkpoint import newest_checkpoint

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import Batch

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 100
"""So many steps in a row may be skipped: weights that skipped steps leave alone do not get better by themselves."""


class LitFlow(L.LightningModule):
    """Train an ImageFlow by maximum likelihood; losses and metrics are bits per dimension.

    Dequantization noise and dropped labels are functions of (seed, step, image), so a resumed run and a run on other
    ranks see the same ones.

    Args:
        flow: the model.
        optimizer: makes the optimizer from named parameters.
        schedule: maps (step, part of the run done) to the factor on the learning rate.
        seed: of the training noise and of the dropped labels.
        label_dropout: part of the training images whose label is dropped; the flow is built with it, too.
        num_init_images: images of the data-dependent initialisation, in one batch.
        num_val_draws: noise draws per image in validation.
        num_test_draws: noise draws per image in the test.
        eval_seed: of the noise of validation and test.
        compile: compile the flow's forward pass and its gradient (torch.compile) once it is initialised.
        on_nonfinite: what to do at a step whose loss or gradient is not finite: "raise", or "skip" and count the step.
            In 16-mixed precision such steps are part of training, and skipped by loss scaling. After 100 of them in a
            row, a run ends in any case.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        flow: ImageFlow,
        *,
        optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer],
        schedule: Callable[[int, float], float],
        seed: int = 0,
        label_dropout: float = 0.0,
        num_init_images: int = 256,
        num_val_draws: int = 1,
        num_test_draws: int = 4,
        eval_seed: int = 0,
        compile: bool = False,
        on_nonfinite: str = "raise",
    ) -> None:
        super().__init__()
        require_positive(num_init_images=num_init_images, num_val_draws=num_val_draws, num_test_draws=num_test_draws)
        if not isinstance(getattr(flow, "spec", None), dict):
            raise ValueError(
                "the model does not say how it was built, so its checkpoints could not be read: put its class into "
                "flows.models.registry.MODELS, and make it by model._target_=flows.build"
            )
        if label_dropout != flow.label_dropout:
            raise ValueError(
                f"training.label_dropout is {label_dropout}, but the model was built for {flow.label_dropout}: set "
                "training.label_dropout only, and take a model that can drop labels: glow, realnvp or tarflow"
            )
        try:
            check_groups(optimizer(flow.named_parameters()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"the optimizer refuses its settings, optimizer.*: {error}") from error
        self.flow = flow
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.label_dropout = label_dropout
        self.num_init_images = num_init_images
        self.num_val_draws = num_val_draws
        self.num_test_draws = num_test_draws
        self.eval_seed = eval_seed
        self.compiles = compile
        self.skips = choose("on_nonfinite", {"raise": False, "skip": True}, on_nonfinite)
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self.warned_of_drift = False
        self._losses: list[Tensor] = []
        self.bits = ImageAverage()
        self.parts_to_initialize: Sequence[nn.Module] | None = None
        """The parts that a new run initialises; None for all of them."""
        self.validation: tuple[int, Average] | None = None
        """The last validation: the number of steps before it, and its result."""
        self.test_average: Average | None = None

    def setup(self, stage: str) -> None:
        """Initialise from data, with the same images on all ranks; not if this is done, or a checkpoint is restored.

        Raises:
            ValueError: if the data lack the classes or conditions that the flow reads, or if the precision is lower
                than float32 outside the networks of the couplings.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.flow.num_classes not in (None, data.num_classes):
            raise ValueError(
                f"model.num_classes is {self.flow.num_classes}, but data.num_classes is {data.num_classes}: "
                "a class-conditional flow needs labelled data with as many classes"
            )
        check_conditions(self.flow, data.condition_shape)
        check_precision(self.flow, self.trainer.precision)
        if stage == "fit" and self.trainer.ckpt_path is None and not self.flow.initialized:
            self.flow.to(self.device)  # Lightning only moves it later
            first = move_data_to_device(data.initial_batch(self.num_init_images), self.device)
            initialize(self.flow, *self._arguments(first), parts=self.parts_to_initialize)
        if self.compiles and stage == "fit":
            self.flow.compile()

    def _arguments(self, batch: Batch) -> tuple[Tensor | None, ...]:
        """Return the arguments of the flow's `forward` in training: images, label, noise, condition."""
        noise = uniform_noise(batch.index, self.flow.image_shape, seed=self.seed, stream=self.global_step)
        known = given(self.flow, batch)
        return batch.images, self._kept(known.get("label"), batch), noise, known.get("condition")

    def _kept(self, label: Tensor | None, batch: Batch) -> Tensor | None:
        """Return the labels of a training batch, some of them dropped."""
        if label is None or self.label_dropout == 0:
            return label
        chance = uniform_noise(batch.index, (1,), seed=self.seed, stream=-1 - self.global_step)[:, 0]
        return torch.where(chance < self.label_dropout, self.flow.dropped_label(batch.images), label)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how to build the flow: plain data, so that `load_flow` needs only the file."""
        checkpoint[SPEC_KEY] = self.flow.spec
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue to count skipped steps."""
        self.skipped_steps = checkpoint.get("skipped_steps", 0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean bits/dim of the batch."""
        log_prob = self.flow(*self._arguments(batch))
        loss = bits_per_dim(log_prob, self.flow.num_dims).mean()
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Watch the error of what memory-flat training rebuilds."""
        if self.flow.memory_flat and (drift := largest_drift(self.flow)) is not None:
            self.log("train/reconstruction_drift", drift, batch_size=1)
            if self.global_step % self.trainer.log_every_n_steps == 0 and not self.warned_of_drift:  # type: ignore[attr-defined]
                self._warn_of_drift(drift.item(), batch)

    def _warn_of_drift(self, drift: float, batch: Batch) -> None:
        if not DRIFT_LIMIT < drift < math.inf:
            return
        self.warned_of_drift = True
        name, error = least_exact(self.flow, *self._arguments(batch))
        log.warning(
            "after step %d inputs are rebuilt with an error of %.2g, and gradients suffer: the layer that rebuilds its "
            "own input worst is %s, with %.2g; set model.memory_flat=false or a lower optimizer.lr",
            self.global_step,
            drift,
            name,
            error,
        )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, and log the step's loss and the norm before clipping; or handle a step that is not finite.

        Raises:
            FloatingPointError: if the loss or the gradient is not finite and such steps are not skipped.
        """
        limit = gradient_clip_val or math.inf
        by_value = gradient_clip_algorithm == "value"
        norm = nn.utils.clip_grad_norm_(self.parameters(), math.inf if by_value else limit)
        if by_value:
            nn.utils.clip_grad_value_(self.parameters(), limit)
        loss = mean_over_ranks(torch.stack(self._losses).mean())
        self._losses.clear()
        self.log("train/bits_per_dim", loss, prog_bar=True, batch_size=1)
        if bool(torch.isfinite(norm) & torch.isfinite(loss)):  # the gradients already are the mean over ranks
            self.log("train/gradient_norm", norm, batch_size=1)
            self.skipped_in_a_row = 0
        elif self.trainer.precision == "16-mixed" and self.skipped_in_a_row < MOST_IN_A_ROW:
            self.skipped_in_a_row += 1  # loss scaling skips such steps, and lowers its factor
        else:
            self._not_finite(optimizer, loss, norm)

    def _not_finite(self, optimizer: Optimizer, loss: Tensor, norm: Tensor) -> None:
        if self.skips and self.skipped_in_a_row < MOST_IN_A_ROW:
            optimizer.zero_grad()  # without gradients the optimizer leaves the weights and its moments alone
            self.skipped_steps += 1
            self.skipped_in_a_row += 1
            self.log("train/skipped_steps", float(self.skipped_steps), batch_size=1)
            return
        last = self._last_good_checkpoint()
        again = f"go on from it by {override('resume', last)}" if last else "start again"
        skipped = f"; {MOST_IN_A_ROW} steps in a row were skipped" if self.skipped_in_a_row >= MOST_IN_A_ROW else ""
        raise FloatingPointError(
            f"training diverged at step {self.global_step}: loss {loss:.4g} bits/dim, gradient norm {norm:.4g}, "
            f"learning rate {optimizer.param_groups[0]['lr']:.4g}; the last good checkpoint is {last or 'none yet'}: "
            f"{again} with a lower optimizer.lr or trainer.gradient_clip_val"
            f"{skipped or ', or skip such steps by training.on_nonfinite=skip'}"
        )

    def _last_good_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that is older than the last step; the weights of that step already fail."""
        paths = {
            path
            for callback in self.trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback.dirpath
            for path in Path(callback.dirpath).rglob("*.ckpt")
        }
        return newest_checkpoint(paths, before_step=self.global_step)

    def configure_optimizers(self) -> Any:
        """Return the optimizer with its schedule, which is updated at every step."""
        optimizer = self.make_optimizer(self.flow.named_parameters())
        # Fused optimizers would unscale gradients themselves, after the gradients are clipped and checked.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        scheduler = Scheduled(optimizer, lambda step: self.schedule(step, self.progress(step)))
        keep_settings(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def progress(self, step: int) -> float:
        """Return how much of the run is done, 0 to 1: by steps, images or time, whichever gives the most.

        All ranks call this together, because the clocks of a Timer differ.
        """
        done = self.progress_here(step)
        if step and any(isinstance(callback, Timer) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            done = mean_over_ranks(torch.tensor(done, device=self.device)).item()
        return done

    def progress_here(self, step: int) -> float:
        """Return `progress` by the clock of this rank, which need not ask the others."""
        if step == 0:  # asked before a checkpoint is restored: counting the steps would start the data too early
            return 0.0
        done = step / self.trainer.estimated_stepping_batches
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                done = max(done, callback.done)
            if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None:
                elapsed = callback.time_elapsed()
                done = max(done, elapsed / (elapsed + max(0.0, remaining)))
        return min(1.0, done)

    def _evaluate(self, batch: Batch, num_draws: int) -> None:
        log_probs = given_log_probs(self.flow, batch, num_draws, self.eval_seed)
        self.bits.update(mean_bits_per_dim(log_probs, self.flow.num_dims), batch.index)

    def _collect(self) -> Average:
        average = self.bits.compute()
        self.bits.reset()
        return average

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the bits/dim of each image; on the first batch, measure the reconstruction error."""
        self._evaluate(batch, self.num_val_draws)
        if batch_idx == 0:
            self.log(
                "val/reconstruction_error",
                self.reconstruction_error(batch),
                batch_size=1,
                reduce_fx="max",
                sync_dist=True,
            )

    def on_validation_epoch_end(self) -> None:
        """Log the mean over the validation set, with a warning if it is not finite."""
        average = self._collect()
        self.validation = self.global_step, average
        mean = average.mean
        if not math.isfinite(mean):
            log.warning(
                "validation bits/dim is %s after step %d: the flow maps some validation image out of range; "
                "if it stays so, set model.input_limit or a lower optimizer.lr",
                mean,
                self.global_step,
            )
        self.log("val/bits_per_dim", mean, prog_bar=True, batch_size=1, sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the bits/dim of each image, in full precision, as all commands measure a stored flow."""
        with full_precision(batch.images):
            self._evaluate(batch, self.num_test_draws)

    def on_test_epoch_end(self) -> None:
        """Log the mean over the test set and its standard error."""
        self.test_average = self._collect()
        self.log("test/bits_per_dim", self.test_average.mean, batch_size=1, sync_dist=True)
        if self.test_average.standard_error is not None:
            self.log("test/standard_error", self.test_average.standard_error, batch_size=1, sync_dist=True)

    def result(self, split: str) -> dict[str, Any]:
        """Return the result of the last validation ("val") or the test ("test") as fields of a `Provenance`."""
        average = self.test_average if split == "test" else self.validation and self.validation[1]
        assert average is not None
        return {
            "split": split,
            "num_images": average.num_images,
            "bits_per_dim": average.mean,
            "standard_error": average.standard_error,
            "num_draws": self.num_test_draws if split == "test" else self.num_val_draws,
            "noise": self.flow.dequantize.noise_name,
            "noise_seed": self.eval_seed,
        }

    def reconstruction_error(self, batch: Batch) -> Tensor:
        """Return the largest |x - inverse(forward(x))| over a batch of dequantized images (grey range 1)."""
        with full_precision(batch.images):
            context = self.flow.context(**given(self.flow, batch))
            x = self.flow.dequantize.place(batch.images, torch.tensor(0.5, device=batch.images.device))
            zs, _ = self.flow.multiscale(x, context)
            return (x - self.flow.multiscale.inverse(zs, context)).abs().max()
