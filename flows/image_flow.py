"""The class that users work with: a normalising flow from 8-bit images to standard normal latents."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flows.autocast import full_precision
from flows.check_inputs import (
    check_condition,
    check_guidance,
    check_images,
    check_label,
    check_label_values,
    check_latents,
    check_level_temperature,
    check_noise,
    check_place,
    check_position,
    check_precision,
    check_temperature,
)
from flows.context import Context
from flows.dequantize import Dequantize, in_precision, on_grid
from flows.guidance import Guidance
from flows.initialize import DataDependent
from flows.multiscale import Multiscale, draw_latents, standard_normal_log_prob
from flows.networks.context import ContextNet

log = logging.getLogger(__name__)

AT_ONCE = 1024
"""How many images, counted once for each class, the prior at the top gets at once where all classes are tried."""


class ImageFlow(nn.Module):
    """A flow over uint8 images: dequantization followed by a multi-scale bijection.

    Args:
        image_shape: (C, H, W).
        dequantize: uint8 to continuous.
        multiscale: continuous to latents.
        num_classes: number of labels of a class-conditional flow, else None.
        condition_shape: (C, H, W) of the images that the flow is conditioned on, else None.
        context_net: makes features of labels and condition, which the parts of the flow read; None if there are none.
            Where it does not read labels, the prior at the top is the only part that does.
        label_dropout: part of the training images whose label is dropped. Above 0, all parts that read labels know one
            more, `num_classes`, which stands for a label that was dropped.
    """

    spec: dict[str, Any]
    """`name` and arguments for `flows.build`; plain data, set by `flows.build`."""

    memory_flat = False
    """Whether the flow trains in memory that does not grow with its depth; set by `flows.build`."""

    initialized = False
    """Whether the flow's starting point is set, by `flows.initialize` or by loading all the weights of another flow."""

    warned = False
    """Whether the warning that the flow is not initialised was given."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        dequantize: Dequantize,
        multiscale: Multiscale,
        num_classes: int | None = None,
        condition_shape: Sequence[int] | None = None,
        context_net: ContextNet | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.dequantize = dequantize
        self.multiscale = multiscale
        self.num_classes = num_classes
        self.condition_shape = None if condition_shape is None else tuple(condition_shape)
        self.context_net = context_net
        self.label_dropout = label_dropout
        self.register_load_state_dict_post_hook(note_loaded)  # type: ignore[no-untyped-call]

    @property
    def num_dims(self) -> int:
        """C * H * W, the number of dimensions that bits are averaged over."""
        return math.prod(self.image_shape)

    @property
    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each latent, finest first."""
        return self.multiscale.latent_shapes

    def forward(
        self,
        images: Tensor,
        label: Tensor | None = None,
        noise: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Return `log_prob(images, label, noise, condition)`."""
        return self.log_prob(images, label, noise, condition)

    def context(self, label: Tensor | None = None, condition: Tensor | None = None) -> Context | None:
        """Return the context of `multiscale`: labels, and features of labels and condition; None if there are none."""
        features = () if self.context_net is None else self.context_net(label, condition)
        return (*features, *(() if label is None else (label,))) or None

    def log_prob(
        self,
        images: Tensor,
        label: Tensor | None = None,
        noise: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Return log p(x) + log_det of the map from noise to x; its mean over noise is at most log P(image).

        For a class-conditional flow this is the density given the label. Without labels it is the density of all
        classes together, if they are equally frequent: the logarithm of the mean of p(x | label) over the classes.

        Args:
            images: uint8 `(B, C, H, W)`.
            label: `(B,)` int64 for a class-conditional flow, or None.
            noise: dequantization noise in [0, 1), `(B, C, H, W)`; drawn from torch's generator if None.
            condition: uint8 `(B, C', H', W')`, for a flow that is conditioned on images.

        Returns:
            `(B,)`, nats.

        Raises:
            ValueError: if an argument is not as above, or if the flow is not in float32 or float64. Whether labels are
                classes of the flow and noise is in [0, 1) is not checked, because a GPU would have to wait.
        """
        if label is not None or self.num_classes is None:
            check_label(label, self.num_classes, images)
        self.check(images, condition)
        self.warn_unless_initialized(images)
        if noise is None:
            noise = torch.rand(images.shape, device=images.device)
        check_noise(noise, images)
        reference = next(self.parameters(), noise)
        x, noise_log_det = self.dequantize(images, in_precision(noise, reference.dtype))
        if label is None and self.num_classes is not None:
            of_classes = self.log_prob_of_classes(x, condition)
            return noise_log_det + of_classes.logsumexp(0) - math.log(self.num_classes)
        zs, log_det = self.multiscale(x, self.context(label, condition))
        return noise_log_det + log_det + standard_normal_log_prob(zs)

    def log_prob_of_classes(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the log density of continuous `x` `(B, C, H, W)` given each class, `(num_classes, B)`, in nats."""
        assert self.num_classes is not None
        labels = torch.arange(self.num_classes, device=x.device)[:, None].expand(-1, len(x))
        if self.context_net is not None and self.context_net.reads_labels:
            return torch.stack([self.multiscale.log_prob(x, self.context(label, condition)) for label in labels])
        zs, at_top, log_det = self.multiscale.below_top(x, self.context(None, condition))
        below = log_det + standard_normal_log_prob(zs) if zs else log_det
        found = []
        for some in labels.split(max(1, AT_ONCE // len(x))):
            several = (len(some), 1, 1, 1)
            conditions = None if condition is None else condition.repeat(several)
            eps, top_log_det = self.multiscale.top(at_top.repeat(several), self.context(some.flatten(), conditions))
            found.append((top_log_det + standard_normal_log_prob([eps])).view_as(some))
        return below + torch.cat(found)

    def log_prob_of_dropped_label(
        self, images: Tensor, noise: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Return what `log_prob` returns, but under the dropped label: what the flow knows of images without a label.

        Raises:
            ValueError: if an argument is not as for `log_prob`, or if the flow was trained without label dropout.
        """
        return self.log_prob(images, self.dropped_label(images), noise, condition)

    def dropped_label(self, batch: Tensor) -> Tensor:
        """Return the label that stands for a dropped one, for each image of a batch: `(B,)` int64.

        Raises:
            ValueError: if the flow was trained without labels or without label dropout.
        """
        if self.num_classes is None:
            raise ValueError("this flow was trained without labels: take log_prob")
        if not self.label_dropout:
            raise ValueError(
                "this flow was trained without label dropout, so that it does not know images without a label: train "
                "one with training.label_dropout=0.1"
            )
        return torch.full(batch.shape[:1], self.num_classes, device=batch.device)

    def encode(
        self,
        images: Tensor,
        label: Tensor | None = None,
        noise: Tensor | float = 0.5,
        condition: Tensor | None = None,
    ) -> list[Tensor]:
        """Return the latents of images, finest first; without `noise`, those of the centres of the images' bins.

        Autocast does not reach this and `decode`: with lower precision, images would not come back.

        Args:
            images: uint8 `(B, C, H, W)`.
            label: `(B,)` int64 for a class-conditional flow.
            noise: in [0, 1), one number or `(B, C, H, W)`: where in its bin each value lies.
            condition: as for `log_prob`.

        Raises:
            ValueError: if an argument is not as above, or if the flow is not in float32 or float64.
        """
        check_label(label, self.num_classes, images)
        self.check(images, condition)
        check_label_values(label, self.num_classes)
        reference = next(self.parameters(), torch.empty(()))
        position = in_precision(check_position(noise, images), reference.dtype).to(images.device)
        x = self.dequantize.place(images, on_grid(position))
        with full_precision(x):
            return self.multiscale(x, self.context(label, condition))[0]

    def check(self, images: Tensor, condition: Tensor | None) -> None:
        """Raise ValueError unless the arguments suit the flow, and the flow is in float32 or float64."""
        parameter = next(self.parameters(), None)
        check_precision(parameter)
        check_images(images, self.image_shape)
        check_place("images", images, parameter)
        check_condition(condition, self.condition_shape, images)

    @torch.no_grad()
    def decode(
        self,
        zs: Sequence[Tensor],
        label: Tensor | None = None,
        condition: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Return the uint8 images `(B, C, H, W)` that latents, finest first, stand for.

        Args:
            zs: as `encode` returns them.
            label: as for `encode`.
            condition: as for `encode`.
            guidance: as for `sample`.

        Raises:
            ValueError: if an argument does not suit the flow, or if it is not in float32 or float64.
        """
        parameter = next(self.parameters(), None)
        check_precision(parameter)
        check_latents(zs, self.latent_shapes)
        check_place("latents", zs[0], parameter)
        check_label(label, self.num_classes, zs[0])
        check_label_values(label, self.num_classes)
        check_condition(condition, self.condition_shape, zs[0])
        self.check_drawing(guidance)
        with full_precision(zs[0]):
            told: tuple[Guidance, ...] = ()
            if guidance:
                told = (Guidance(float(guidance), self.context(self.dropped_label(zs[0]), condition)),)
            return self.dequantize.inverse(self.multiscale.inverse(zs, self.context(label, condition), *told))

    def check_drawing(self, guidance: float = 0.0, level_temperature: Sequence[float] | None = None) -> None:
        """Check that samples can be drawn in this way, before any work is done.

        Raises:
            ValueError: if the flow cannot be guided, or if there is not one temperature per level.
        """
        check_level_temperature(level_temperature, len(self.latent_shapes))
        if check_guidance(guidance) == 0:
            return
        if self.num_classes is None:
            raise ValueError("this flow was trained without labels: leave guidance out")
        if not self.label_dropout:
            raise ValueError(
                "guidance needs a flow that knows images without a label, and this one was trained without label "
                "dropout: leave guidance out, or train a flow with training.label_dropout=0.1"
            )
        self.multiscale.check_guidance()

    @torch.no_grad()
    def sample(
        self,
        seeds: Iterable[int],
        temperature: float = 1.0,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        guidance: float = 0.0,
        level_temperature: Sequence[float] | None = None,
    ) -> Tensor:
        """Draw one image per seed.

        Samples at another temperature than 1, or with guidance, do not follow the density that `log_prob` returns.

        Args:
            seeds: one whole number per image, from 0 to 2^32 - 1; the same seed gives the same latents in any batch, on
                any device.
            temperature: factor on the standard deviation of all latents (Glow, section 6). 0 gives the image of the
                prior's mode. This is the most probable image only if the flow preserves volume.
            label: `(B,)` int64 for a class-conditional flow.
            condition: as for `log_prob`, one image for each seed.
            guidance: for a flow that was trained with label dropout, the weight by which each Gaussian that reads the
                label is pushed away from itself under the dropped label (see `flows.guidance`). Samples show their
                label more clearly, and differ less. The temperature comes after it.
            level_temperature: one more factor on the standard deviation for each level, finest first; None for 1.

        Returns:
            uint8 `(B, C, H, W)`.

        Raises:
            ValueError: if an argument is not as above, or if the flow is not in float32 or float64.
        """
        factor = check_temperature(temperature)
        self.check_drawing(guidance, level_temperature)
        factors = [factor * level for level in check_level_temperature(level_temperature, len(self.latent_shapes))]
        zs = [factor * eps for factor, eps in zip(factors, self.draw_latents(seeds), strict=True)]
        return self.decode(zs, label, condition, guidance)

    def draw_latents(self, seeds: Iterable[int]) -> list[Tensor]:
        """Draw standard normal latents, finest first: one generator and one draw for each seed.

        Raises:
            ValueError: if seeds are not as in `sample`.
        """
        return draw_latents(seeds, self.latent_shapes, next(self.parameters(), torch.empty(())))

    def warn_unless_initialized(self, images: Tensor) -> None:
        """Warn, once, if the data-dependent layers were never initialised; not for images without values (meta)."""
        if self.initialized or self.warned or torch.compiler.is_compiling() or images.is_meta:
            return
        self.warned = True
        if any(isinstance(part, DataDependent) for part in self.modules()):
            log.warning(
                "this %s was never initialised, so that it trains slowly and scores badly: call "
                "flows.initialize(flow, %s) before, or load weights",
                type(self).__name__,
                "images" if self.num_classes is None else "images, label",
            )


def note_loaded(flow: Any, incompatible_keys: Any) -> None:
    """Note that a flow got all the weights of another flow; a hook of `load_state_dict`."""
    if not incompatible_keys.missing_keys:
        flow.initialized = True
