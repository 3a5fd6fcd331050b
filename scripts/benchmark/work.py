"""The works that are timed: a training step, samples and latents, at three shapes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import flows
from flows.image_flow import ImageFlow

Work = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model and a batch."""

    image_shape: tuple[int, int, int]
    num_levels: int
    num_steps: int
    hidden_channels: int
    batch_size: int

    def __str__(self) -> str:
        size = "x".join(map(str, self.image_shape))
        return f"{size} L{self.num_levels} K{self.num_steps} width {self.hidden_channels} batch {self.batch_size}"

    @property
    def model(self) -> dict[str, object]:
        """The arguments that every contestant's builder takes."""
        return {key: value for key, value in asdict(self).items() if key != "batch_size"}


SHAPES = {
    "1x28x28": Shape((1, 28, 28), num_levels=2, num_steps=8, hidden_channels=64, batch_size=64),
    "3x32x32": Shape((3, 32, 32), num_levels=3, num_steps=8, hidden_channels=128, batch_size=32),
    "3x64x64": Shape((3, 64, 64), num_levels=4, num_steps=4, hidden_channels=128, batch_size=8),
}


def draw_images(shape: Shape, device: torch.device) -> Tensor:
    """Return smooth random images of a few blobs of colour, uint8 `(B, C, H, W)`, which are the same every time."""
    channels, height, width = shape.image_shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(shape.batch_size, channels, 4, 4, generator=generator)
    fine = F.interpolate(coarse, (height, width), mode="bicubic").sigmoid()
    return (256 * fine).clamp(0, 255).to(torch.uint8).to(device)


def training_step(flow: ImageFlow, images: Tensor, compile: bool = False) -> Work:
    """Return a training step of maximum likelihood: forward, backward, Adam."""
    log_prob = torch.compile(flow.log_prob) if compile else flow.log_prob
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)).to(images.device)

    def step() -> None:
        optimizer.zero_grad()
        loss = flows.bits_per_dim(log_prob(images, None, noise), flow.num_dims).mean()
        loss.backward()
        optimizer.step()

    return step


def gradients(flow: ImageFlow, images: Tensor) -> Work:
    """Return only a forward and backward pass, into gradients that exist already."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)).to(images.device)
    for parameter in flow.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step() -> None:
        flows.bits_per_dim(flow.log_prob(images, None, noise), flow.num_dims).mean().backward()

    return step


def sampling(flow: ImageFlow, num_samples: int, compile: bool = False) -> Work:
    """Return the work of drawing `num_samples` images with a sampler that is made before."""
    sampler = flows.Sampler(flow, compile=compile)
    if not compile:
        sampler.mode = torch.inference_mode  # by itself it would take this mode only for layers of this project
    return lambda: sampler.sample(range(num_samples), temperature=0.7)


def encoding(flow: ImageFlow, images: Tensor, compile: bool = False) -> Work:
    """Return the work of encoding images to latents."""
    encode_images = torch.compile(flow.encode) if compile else flow.encode

    @torch.no_grad()
    def encode() -> None:
        encode_images(images)

    return encode


WORKS: dict[str, Callable[[ImageFlow, Tensor, bool], Work]] = {
    "training step": training_step,
    "sampling 64": lambda flow, images, compile: sampling(flow, 64, compile),
    "sampling 1": lambda flow, images, compile: sampling(flow, 1, compile),
    "encoding": encoding,
}


@torch.no_grad()
def reconstruction_error(flow: ImageFlow, images: Tensor) -> float:
    """Return the largest |x - inverse(forward(x))| over a batch, for a grey range of 1."""
    x = flow.dequantize.place(images, torch.tensor(0.5, device=images.device))
    zs, _ = flow.multiscale(x)
    return (x - flow.multiscale.inverse(zs)).abs().max().item()
