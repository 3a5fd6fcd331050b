"""How good samples look during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from flows.arguments import require_positive
from flows.check_inputs import check_guidance, check_temperature
from flows.image_flow import ImageFlow
from flows.sampler import Sampler
from flows.training.given import on_device
from flows.training.knobs import Knobs
from flows.training.lit import LitFlow
from flows.training.loops import is_last_step
from flows.training.machine.sharing import Share
from flows.training.quality.distances import check_enough, check_installed, distances
from flows.training.quality.features import Features, classifier_of, describe_features, described_by, ready
from flows.training.quality.samples import accuracy, class_frequencies, described_samples

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import ImageData


class Quality(L.Callback):
    """Compare a few samples with the validation images, at every n-th validation and the last one.

    Logs val/fd, val/kid, val/precision, val/recall and, if the features tell the classes of the flow, val/accuracy.
    List this callback before weight averaging, so that it draws with the averaged weights.

    Args:
        features: the features in which images are compared.
        num_samples: number of samples. With fewer samples, a Frechet distance gets larger: compare equal numbers only.
        temperature: of the samples.
        guidance: of the samples, for a flow that is trained with label dropout.
        batch_size: samples drawn at once.
        every_n_validations: n, to measure at every n-th validation.

    Raises:
        ModuleNotFoundError: if torch-fidelity is not installed.
        ValueError: if an argument is out of range, or if there are not more samples than features.
    """

    def __init__(
        self,
        features: Features,
        *,
        num_samples: int = 2000,
        temperature: float = 1.0,
        guidance: float = 0.0,
        batch_size: int = 250,
        every_n_validations: int = 1,
    ) -> None:
        require_positive(num_samples=num_samples, batch_size=batch_size, every_n_validations=every_n_validations)
        check_installed("torch_fidelity")
        check_enough(num_samples, features.num_features, "samples")
        self.features = features
        self.num_samples = num_samples
        self.knobs = Knobs(check_temperature(temperature), check_guidance(guidance))
        self.batch_size = batch_size
        self.every_n_validations = every_n_validations
        self.num_validations = 0
        self.measured_step: int | None = None
        """The number of steps before the last measurement."""
        self._real: torch.Tensor | None = None

    @property
    def about(self) -> str:
        """What the figures depend on: number of samples, how they are drawn, and the features."""
        how = f"temperature {self.knobs.temperature:g}, guidance {self.knobs.guidance:g}"
        return f"{self.num_samples:,} samples (seeds from 0, {how}) by {describe_features(self.features)}"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the features read the images of the flow.

        Raises:
            ValueError: if the features do not read them, or if the flow needs more than labels or cannot be guided.
        """
        assert isinstance(pl_module, LitFlow)
        self.check(pl_module.flow)

    def check(self, flow: ImageFlow) -> None:
        """Check that the features read the images of a flow.

        Raises:
            ValueError: if they do not, or if the flow needs more than labels or cannot be guided.
        """
        if flow.condition_shape is not None:
            raise ValueError("callbacks.quality cannot measure a flow that is given images: set callbacks.quality=null")
        self.features.check(flow.image_shape)
        flow.check_drawing(self.knobs.guidance)

    def check_images(self, data: ImageData) -> None:
        """Check that data that are set up have enough validation images.

        Raises:
            ValueError: if there are not more of them than features.
        """
        check_enough(len(data.val_set), self.features.num_features, "validation images")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Describe the validation images, in the grey levels of the flow.

        Raises:
            ValueError: if there are not more validation images than features.
        """
        assert isinstance(pl_module, LitFlow)
        data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
        self.check_images(data)
        self.features = ready(self.features, pl_module.device)
        with torch.no_grad():
            batches = on_device(data.batches(data.val_set), pl_module.device)
            real = (pl_module.flow.dequantize.without_low_bits(batch.images) for batch in batches)
            self._real = torch.cat([described_by(self.features, images) for images in real])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure during validation, when the model has the averaged weights."""
        self.num_validations += 1
        if self._real is None or not (self.num_validations % self.every_n_validations == 0 or is_last_step(trainer)):
            return
        assert isinstance(pl_module, LitFlow)
        found = self.measured(trainer, pl_module.flow)
        self.measured_step = trainer.global_step
        pl_module.log_dict({f"val/{name}": value for name, value in found.items()}, batch_size=1)

    @torch.no_grad()
    def measured(self, trainer: L.Trainer, flow: ImageFlow) -> dict[str, float]:
        """Return the measured values of a flow by name, after training has begun; ranks share the work."""
        assert self._real is not None
        self.features = ready(self.features, next(flow.parameters()).device)
        share = Share(trainer.global_rank, trainer.world_size)
        seeds = range(self.num_samples)
        data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
        frequencies = class_frequencies(data.sets["train"].labels, flow.num_classes)
        how: Any = {"knobs": self.knobs, "frequencies": frequencies, "share": share}
        samples = described_samples(Sampler(flow), self.features, seeds, self.batch_size, **how)
        found: dict[str, Any] = distances(samples.features, self._real)._asdict()
        del found["kid_error"]
        told = accuracy(samples, classifier_of(self.features, data))["accuracy"]
        return found if told is None else found | {"accuracy": told}

    def state_dict(self) -> dict[str, Any]:
        """Return the number of validations so far."""
        return {"num_validations": self.num_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of validations."""
        self.num_validations = state_dict["num_validations"]
