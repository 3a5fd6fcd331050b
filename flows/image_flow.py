"""What users hold: a normalising flow from 8-bit images to standard normal latents."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flows.dequantize import Dequantize, on_grid
from flows.multiscale import Multiscale


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

    memory_efficient = False
    """Whether it trains in memory that does not grow with its depth; set by `flows.build`."""

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
            ValueError: if the images are not uint8 or not of the flow's shape.
        """
        self.check_images(images)
        if noise is None:
            noise = torch.rand(images.shape, device=images.device)
        reference = next(self.parameters(), noise)
        x, noise_log_det = self.dequantize(images, noise.to(reference.dtype))
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
            ValueError: if the images are not uint8 or not of the flow's shape.
        """
        self.check_images(images)
        reference = next(self.parameters(), torch.empty(()))
        noise = torch.as_tensor(noise, dtype=reference.dtype, device=images.device)
        return self.multiscale(self.dequantize.place(images, on_grid(noise)), label)[0]

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError unless `images` are uint8 and of the flow's shape."""
        if images.dtype != torch.uint8 or images.shape[1:] != self.image_shape:
            expected = f"uint8 images (B, {', '.join(map(str, self.image_shape))})"
            raise ValueError(f"the flow expects {expected}, got {images.dtype} {tuple(images.shape)}")

    def decode(self, zs: Sequence[Tensor], label: Tensor | None = None) -> Tensor:
        """Return the uint8 images `(B, C, H, W)` that latents, finest first, stand for."""
        return self.dequantize.inverse(self.multiscale.inverse(zs, label))

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw one image a seed.

        Args:
            seeds: one integer an image; the same seed gives the same latents in any batch, on any device.
            temperature: factor on the standard deviation of all latents (Glow, section 6); 0 gives the image of
                the prior's mode, which is the most probable image only of a flow that keeps volume.
            label: `(B,)` int64 for a class-conditional flow.

        Returns:
            uint8 `(B, C, H, W)`.

        Raises:
            ValueError: if the temperature is negative.
        """
        if temperature < 0:
            raise ValueError(f"temperature is at least 0, got {temperature}")
        zs = [temperature * eps for eps in self.draw_latents(seeds)]
        return self.decode(zs, label)

    def draw_latents(self, seeds: Sequence[int]) -> list[Tensor]:
        """Draw standard normal latents, finest first: one generator and one draw a seed, cut into levels."""
        reference = next(self.parameters())
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        draws = [torch.randn(self.num_dims, generator=generator, dtype=torch.float32) for generator in generators]
        flat = torch.stack(draws).to(device=reference.device, dtype=reference.dtype)
        parts = torch.split(flat, [math.prod(shape) for shape in self.latent_shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.latent_shapes, strict=True)]
