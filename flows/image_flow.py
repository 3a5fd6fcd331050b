"""What users hold: a normalising flow from 8-bit images to standard normal latents."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flows.check_inputs import (
    check_images,
    check_label,
    check_label_values,
    check_latents,
    check_noise,
    check_place,
    check_position,
    check_precision,
    check_seeds,
    check_temperature,
)
from flows.dequantize import Dequantize, in_precision, on_grid
from flows.initialize import DataDependent
from flows.multiscale import Multiscale

log = logging.getLogger(__name__)


class ImageFlow(nn.Module):
    """A flow over uint8 images: dequantization followed by a multi-scale bijection.

    Args:
        image_shape: (C, H, W).
        dequantize: uint8 to continuous.
        multiscale: continuous to latents.
        latent_shapes: (C, H, W) of each latent, finest first.
        num_classes: number of labels of a class-conditional flow, else None.
    """

    spec: dict[str, Any]
    """`name` and arguments for `flows.build`; plain data, set by `flows.build`."""

    memory_flat = False
    """Whether it trains in memory that does not grow with its depth; set by `flows.build`."""

    initialized = False
    """Whether its starting point is set, by `flows.initialize` or by all the weights of another flow."""

    warned = False
    """Whether it was told that it is not initialised."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        dequantize: Dequantize,
        multiscale: Multiscale,
        latent_shapes: Sequence[tuple[int, int, int]],
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.dequantize = dequantize
        self.multiscale = multiscale
        self.latent_shapes = list(latent_shapes)
        self.num_classes = num_classes
        self.register_load_state_dict_post_hook(note_loaded)  # type: ignore[no-untyped-call]

    @property
    def num_dims(self) -> int:
        """C * H * W, the number of dimensions that bits are averaged over."""
        return math.prod(self.image_shape)

    def forward(self, images: Tensor, label: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Return `log_prob(images, label, noise)`."""
        return self.log_prob(images, label, noise)

    def log_prob(self, images: Tensor, label: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Return log p(x) + log_det of noise to x, whose mean over noise bounds log P(image) from below.

        Args:
            images: uint8 `(B, C, H, W)`.
            label: `(B,)` int64 for a class-conditional flow.
            noise: dequantization noise in [0, 1), `(B, C, H, W)`; drawn from torch's generator if None.

        Returns:
            `(B,)`, nats.

        Raises:
            ValueError: if images, label or noise are not as above, or if the flow is not in float32 or float64. Whether
                labels are of a class and noise is in [0, 1) is not looked at, as a GPU would have to wait.
        """
        self.check(images, label)
        self.warn_unless_initialized(images)
        if noise is None:
            noise = torch.rand(images.shape, device=images.device)
        check_noise(noise, images)
        reference = next(self.parameters(), noise)
        x, noise_log_det = self.dequantize(images, in_precision(noise, reference.dtype))
        zs, log_det = self.multiscale(x, label)
        squares = torch.stack([z.square().sum((1, 2, 3)) for z in zs]).sum(0)
        return noise_log_det + log_det - 0.5 * (squares + self.num_dims * math.log(2 * math.pi))

    def encode(self, images: Tensor, label: Tensor | None = None, noise: Tensor | float = 0.5) -> list[Tensor]:
        """Return the latents of images, finest first; of the centres of their bins unless `noise` is given.

        Args:
            images: uint8 `(B, C, H, W)`.
            label: `(B,)` int64 for a class-conditional flow.
            noise: in [0, 1), one number or `(B, C, H, W)`: where in its bin each value lies.

        Raises:
            ValueError: if images, label or noise are not as above, or if the flow is not in float32 or float64.
        """
        self.check(images, label)
        check_label_values(label, self.num_classes)
        reference = next(self.parameters(), torch.empty(()))
        position = in_precision(check_position(noise, images), reference.dtype).to(images.device)
        return self.multiscale(self.dequantize.place(images, on_grid(position)), label)[0]

    def check(self, images: Tensor, label: Tensor | None) -> None:
        """Raise ValueError unless images and label suit the flow, and the flow is in float32 or float64."""
        parameter = next(self.parameters(), None)
        check_precision(parameter)
        check_images(images, self.image_shape)
        check_place("images", images, parameter)
        check_label(label, self.num_classes, images)

    def decode(self, zs: Sequence[Tensor], label: Tensor | None = None) -> Tensor:
        """Return the uint8 images `(B, C, H, W)` that latents, finest first, stand for.

        Raises:
            ValueError: if latents or label do not suit the flow, or if it is not in float32 or float64.
        """
        parameter = next(self.parameters(), None)
        check_precision(parameter)
        check_latents(zs, self.latent_shapes)
        check_place("latents", zs[0], parameter)
        check_label(label, self.num_classes, zs[0])
        check_label_values(label, self.num_classes)
        return self.dequantize.inverse(self.multiscale.inverse(zs, label))

    @torch.no_grad()
    def sample(self, seeds: Iterable[int], temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw one image a seed.

        Args:
            seeds: one whole number an image, from 0 to 2^32 - 1; the same seed gives the same latents in any batch, on
                any device.
            temperature: factor on the standard deviation of all latents (Glow, section 6); 0 gives the image of
                the prior's mode, which is the most probable image only of a flow that keeps volume.
            label: `(B,)` int64 for a class-conditional flow.

        Returns:
            uint8 `(B, C, H, W)`.

        Raises:
            ValueError: if seeds, temperature or label are not as above, or if the flow is not in float32 or float64.
        """
        factor = check_temperature(temperature)
        zs = [factor * eps for eps in self.draw_latents(seeds)]
        return self.decode(zs, label)

    def draw_latents(self, seeds: Iterable[int]) -> list[Tensor]:
        """Draw standard normal latents, finest first: one generator and one draw a seed, cut into levels.

        Raises:
            ValueError: if seeds are not as in `sample`.
        """
        reference = next(self.parameters(), torch.empty(()))
        generators = [torch.Generator().manual_seed(seed) for seed in check_seeds(seeds)]
        flat = torch.empty(len(generators), self.num_dims, dtype=torch.float32)
        for row, generator in zip(flat, generators, strict=True):
            row.normal_(generator=generator)
        flat = flat.to(device=reference.device, dtype=reference.dtype)
        parts = torch.split(flat, [math.prod(shape) for shape in self.latent_shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.latent_shapes, strict=True)]

    def warn_unless_initialized(self, images: Tensor) -> None:
        """Warn, once, of a flow whose data-dependent layers start from anywhere; without values all do."""
        if self.initialized or self.warned or torch.compiler.is_compiling() or images.is_meta:
            return
        self.warned = True
        if any(isinstance(part, DataDependent) for part in self.modules()):
            log.warning(
                "this %s was never initialised, so that it trains slowly and scores badly: call "
                "flows.initialize(flow, images) before, or load weights",
                type(self).__name__,
            )


def note_loaded(flow: Any, incompatible_keys: Any) -> None:
    """Note that a flow has got all the weights of another one; a hook of `load_state_dict`."""
    if not incompatible_keys.missing_keys:
        flow.initialized = True
