"""Images into bits and back, by a flow."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256, shake_256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flows.arguments import require_positive
from flows.autocast import full_precision
from flows.autoregressive_prior import AutoregressivePrior
from flows.check_inputs import check_images, check_place
from flows.coding.cells import STEP, CodingError
from flows.coding.layers import ChainCode, as_input, code_of
from flows.coding.prior import pop_latents, push_latents
from flows.coding.stack import BitStack
from flows.context import Context
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow
from flows.multiscale import Multiscale

STARTING_WORDS = 16
"""Words of 32 bits for each dimension that lie on the stack at the start; few of them are used."""

HALF = round(0.5 / STEP)
"""Points from the lowest grey level to 0."""

OTHER_ARITHMETIC = (
    "the images cannot be decoded here: the networks must give the same numbers to the last bit, so decode on a "
    "machine of the kind that encoded them, with its version of torch"
)


@dataclass(frozen=True)
class Coded:
    """Images as bits.

    Args:
        words: uint32.
        num_untouched: how many of the words at the start were never used; they are not among `words`.
        batch_sizes: numbers of images that went through the flow together.
        digest: checksum of the images.
        num_threads: of torch while they were coded. With another number, networks may round in another way.
    """

    words: NDArray[np.uint32]
    num_untouched: int
    batch_sizes: list[int]
    digest: str
    num_threads: int

    @property
    def num_images(self) -> int:
        """Number of images."""
        return sum(self.batch_sizes)

    def num_bits(self, num_dims: int) -> tuple[int, int]:
        """Return how many bits the images take, and how many bits the first image needed on the stack.

        Args:
            num_dims: C * H * W.
        """
        starting = 32 * (STARTING_WORDS * num_dims - self.num_untouched)
        return 32 * len(self.words) - starting, starting


class ImageCodec:
    """A lossless code for images: a stream takes as many bits as the flow says, and about 0.3% more.

    The first image needs bits on the stack to choose its noise with. They stay in the stream, and no more are needed:
    later images use the bits of earlier ones.

    Args:
        flow: with uniform noise, not conditioned on images; on the CPU, in float32. Class-conditional flows code each
            image under the class that they think most probable, and code the class.

    Raises:
        ValueError: if there is no code for the flow.
    """

    def __init__(self, flow: ImageFlow) -> None:
        if type(flow.dequantize) is not Dequantize:
            noise = flow.dequantize.noise_name
            raise ValueError(f"images are coded with uniform noise, and this flow has {noise} noise: take another one")
        if flow.condition_shape is not None:
            raise ValueError("a flow that is given images cannot code images alone: take another one")
        parameter = next(flow.parameters(), torch.empty(()))
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise ValueError("images are coded on the CPU in float32: call flow.cpu().float() before")
        if not isinstance(flow.multiscale, Multiscale):
            raise ValueError(f"there is no lossless code for {type(flow.multiscale).__name__}: take another flow")
        self.flow = flow
        self.levels = [code_of(level) for level in flow.multiscale.levels]
        top = flow.multiscale.top
        self.top = ChainCode(top) if isinstance(top, AutoregressivePrior) else None

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 32, told: Callable[[int], None] = lambda count: None) -> Coded:
        """Code images.

        Args:
            images: uint8 `(N, C, H, W)`.
            batch_size: images that go through the flow together, at most.
            told: is called with the number of images of each batch.

        Raises:
            CodingError: if an image is too far from all that the flow knows.
            ModuleNotFoundError: if `constriction` is not installed.
        """
        require_positive(batch_size=batch_size)
        check_images(images, self.flow.image_shape)
        check_place("images", images, next(self.flow.parameters(), None))
        start = starting_words(self.flow.num_dims)
        stack = BitStack(start)
        sizes: list[int] = []
        done = need = 0
        while done < len(images):
            spare = stack.num_words - stack.least_words
            sizes.append(max(1, min(batch_size, len(images) - done, spare // need if need else 1)))
            with full_precision(images):
                self.push(images[done : done + sizes[-1]], stack)
            need = need or len(start) - stack.least_words
            done += sizes[-1]
            told(sizes[-1])
        words, untouched = stack.words(), max(0, stack.least_words - 2)
        if untouched == 0 or not np.array_equal(words[:untouched], start[:untouched]):
            raise CodingError("the images need more bits at the start than there are")
        return Coded(words[untouched:], untouched, sizes, digest_of(images), torch.get_num_threads())

    @torch.no_grad()
    def decode(self, coded: Coded, told: Callable[[int], None] = lambda count: None) -> Tensor:
        """Return the images, uint8 `(N, C, H, W)`.

        Raises:
            CodingError: if they are not the images that were coded, because networks compute other numbers here.
        """
        start = starting_words(self.flow.num_dims)
        stack = BitStack(np.concatenate((start[: coded.num_untouched], coded.words)))
        batches: list[Tensor] = []
        threads = torch.get_num_threads()
        torch.set_num_threads(coded.num_threads)
        try:
            for size in reversed(coded.batch_sizes):
                with full_precision(torch.empty(())):
                    batches.insert(0, self.pop(size, stack))
                told(size)
        except (ValueError, RuntimeError) as error:
            raise CodingError(OTHER_ARITHMETIC) from error
        finally:
            torch.set_num_threads(threads)
        images = torch.cat(batches)
        if not np.array_equal(stack.words(), start) or digest_of(images) != coded.digest:
            raise CodingError(OTHER_ARITHMETIC)
        return images

    def push(self, images: Tensor, stack: BitStack) -> None:
        """Push a batch of images."""
        multiscale = self.flow.multiscale
        dropped = self.flow.dequantize.grey_step
        grey = torch.div(images, dropped, rounding_mode="floor").long()
        stack.push(images.long() - grey * dropped, dropped)
        points = grey * self.bin + stack.pop(torch.full_like(grey, self.bin)) - HALF
        label = None
        if self.flow.num_classes is not None:
            label = self.flow.log_prob_of_classes(as_input(points)).argmax(0)
        context = self.flow.context(label)
        for code, split in zip(self.levels, [*multiscale.splits, None], strict=True):
            points = code.through(points, stack, context)
            if split is not None:
                points, other = (half.contiguous() for half in points.chunk(2, 1))
                push_latents(stack, other, split.mean_and_log_sigma(as_input(points), context))
        if self.top is not None:
            points = self.top.through(points, stack, context)
        push_latents(stack, points, self.top_gaussian(points, context))
        if label is not None and self.flow.num_classes is not None:
            stack.push(label, self.flow.num_classes)

    def pop(self, count: int, stack: BitStack) -> Tensor:
        """Pop a batch of images."""
        multiscale = self.flow.multiscale
        label = None
        if self.flow.num_classes is not None:
            label = stack.pop(torch.full((count,), self.flow.num_classes))
        context = self.flow.context(label)
        like = torch.zeros(count, *multiscale.latent_shapes[-1], dtype=torch.long)
        points = pop_latents(stack, like, self.top_gaussian(like, context))
        if self.top is not None:
            points = self.top.back_through(points, stack, context)
        for code, split in reversed(list(zip(self.levels, [*multiscale.splits, None], strict=True))):
            if split is not None:
                other = pop_latents(stack, points, split.mean_and_log_sigma(as_input(points), context))
                points = torch.cat((points, other), 1)
            points = code.back_through(points, stack, context)
        points = points + HALF
        grey = torch.div(points, self.bin, rounding_mode="floor")
        if ((grey < 0) | (grey >= self.flow.dequantize.num_grey)).any():
            raise CodingError(OTHER_ARITHMETIC)
        stack.push(points - grey * self.bin, self.bin)
        dropped = self.flow.dequantize.grey_step
        return (grey * dropped + stack.pop(torch.full_like(grey, dropped))).to(torch.uint8)

    @property
    def bin(self) -> int:
        """Number of points in the bin of one grey level."""
        return round(1 / (STEP * self.flow.dequantize.num_grey))

    def top_gaussian(self, points: Tensor, context: Context | None) -> Tensor | None:
        """Return mean and log sigma of the coarsest latents; None for N(0, I)."""
        top = self.flow.multiscale.top
        return None if isinstance(top, AutoregressivePrior) else top.mean_and_log_sigma(as_input(points), context)


def starting_words(num_dims: int) -> NDArray[np.uint32]:
    """Return the words on the stack at the start: as random as bits can be, and always the same."""
    drawn = shake_256(b"flows.coding").digest(4 * STARTING_WORDS * num_dims)
    return np.frombuffer(drawn, "<u4").astype(np.uint32)


def digest_of(images: Tensor) -> str:
    """Return a checksum of images."""
    return sha256(images.contiguous().numpy().tobytes()).hexdigest()
