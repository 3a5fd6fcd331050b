"""Images without content, which a good score tells from all others."""

import torch
from torch import Tensor

from data.augment import NUM_GREY
from data.sources.generated import Generated


class Noise(Generated):
    """Images of uniform noise: every value is a random grey level. The arguments are those of `Generated`."""

    def picture(self, generator: torch.Generator) -> Tensor:
        """Return the image that a generator draws: uint8 `(C, H, W)`."""
        return torch.randint(NUM_GREY, self.image_shape, dtype=torch.uint8, generator=generator)


class Constant(Generated):
    """Images of one random grey level, or of one random colour. The arguments are those of `Generated`."""

    def picture(self, generator: torch.Generator) -> Tensor:
        """Return the image that a generator draws: uint8 `(C, H, W)`."""
        channels, _, _ = self.image_shape
        colour = torch.randint(NUM_GREY, (channels, 1, 1), dtype=torch.uint8, generator=generator)
        return colour.expand(self.image_shape)
