"""Autoregressive maps: each pixel of an image is mapped elementwise, steered by the pixels before it."""

import torch
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.bijections.elementwise import ElementwiseMap
from flows.context import Context, features_at, labels_for
from flows.guidance import Guidance, guided
from flows.networks.conditioner import limited
from flows.networks.transformer import CausalTransformer

FAR = 1e12
"""No entry of a token comes near to this value, and a transformer that reads it stays finite."""


class AutoregressiveTransformer(Bijection):
    """Map the pixels of an image `(B, C, H, W)` as a sequence of tokens, each steered by those before it.

    A causal transformer reads a start token and all tokens but the last, and steers an elementwise map of each token
    (TarFlow, Zhai et al. 2024, arXiv:2412.06329). So the first token is mapped, too, from the start token alone. The
    inverse takes one token after the other.

    Args:
        shape: (C, H, W) of the images; there are H * W tokens of C entries.
        elementwise: the map of the tokens.
        width: channels of the transformer.
        num_layers: its layers.
        num_heads: its heads.
        backwards: whether the last pixel comes first.
        num_classes: number of labels that it reads; None for none.
        context_channels: E, the number of features that it reads; 0 for none.
        input_limit: as for `limited`.

    Raises:
        ValueError: if a number is out of range.
    """

    exact_inverse = False

    parallel = False
    """Whether the inverse maps all tokens at once, again and again until nothing changes. The result is the same up to
    rounding. It is faster where many small operators take longer than few large ones."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        elementwise: ElementwiseMap,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        backwards: bool = False,
        num_classes: int | None = None,
        context_channels: int = 0,
        input_limit: float | None = None,
    ) -> None:
        super().__init__()
        self.channels, height, width_of_image = self.shape = shape
        self.num_tokens = height * width_of_image
        self.elementwise = elementwise
        self.backwards = backwards
        self.context_channels = context_channels
        self.limit = nn.Sequential(*limited(input_limit))
        self.enter = nn.Linear(self.channels, width)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(self.num_tokens, width))
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.of_features = nn.Linear(context_channels, width) if context_channels else None
        self.transformer = CausalTransformer(width, num_layers, num_heads)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, elementwise.num_raw * self.channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_size(x)
        columns = self.as_columns(x)
        z, log_derivative = self.elementwise(columns, self.steer(columns, self.known(x, context)))
        return self.as_image(z), log_derivative.sum((1, 2, 3))

    def inverse(self, z: Tensor, context: Context | None = None, guidance: Guidance | None = None) -> Tensor:
        """Map back, one token after the other, or all of them at once again and again (see `parallel`).

        Where gradients are needed, all tokens are mapped at once, as many times as there are tokens.

        Raises:
            ValueError: if `z` does not have the shape, or if guidance is asked for and the map is not affine.
        """
        self.check_size(z)
        known, columns = self.known(z, context), self.as_columns(z)
        if guidance is not None:
            known = torch.cat((known, self.known(z, guidance.context)))
        decode = self.all_at_once if self.parallel or torch.is_grad_enabled() else self.one_by_one
        return self.as_image(decode(columns, known, guidance))

    def one_by_one(self, columns: Tensor, known: Tensor, guidance: Guidance | None) -> Tensor:
        """Map back one token after the other; keys and values of the tokens so far are kept."""
        caches = self.transformer.empty_caches(len(known), self.num_tokens, known)
        x = torch.empty_like(columns)
        token = self.start.expand(len(columns), 1, -1)
        for place in range(self.num_tokens):
            steered = self.transformer.step(both(token, guidance) + known[:, place : place + 1], place, caches)
            here = slice(place, place + 1)
            x[:, :, here] = self.inverse_of(columns[:, :, here], self.as_raw(steered, columns), guidance)
            token = self.tokens_of(x[:, :, here])
        return x

    def all_at_once(self, columns: Tensor, known: Tensor, guidance: Guidance | None) -> Tensor:
        """Map all tokens back at once, and again until nothing changes (Jacobi iteration; Song et al. 2021).

        After k rounds the first k tokens are exact, so it takes at most as many rounds as there are tokens.
        """
        x = columns
        for _ in range(self.num_tokens):
            # A token that is not exact yet may overflow, and would spoil those before it in the transformer.
            before = x.nan_to_num(0, 0, 0).clamp(-FAR, FAR)
            x = self.inverse_of(columns, self.steer(both(before, guidance), known), guidance)
            if not torch.is_grad_enabled() and torch.equal(x, before):
                break
        return x

    def inverse_of(self, z: Tensor, raw: Tensor, guidance: Guidance | None) -> Tensor:
        """Return the `x` of `z`; if guided, `raw` has the values under the dropped label in its second half."""
        if guidance is None:
            return self.elementwise.inverse(z, raw)
        h, dropped = (self.elementwise.mean_and_log_sigma(part) for part in raw.chunk(2))
        mu, log_sigma = guided(h, dropped, guidance.weight).chunk(2, 1)
        return mu + log_sigma.exp() * z

    def check_size(self, x: Tensor) -> None:
        """Raise ValueError unless `x` has the shape that this map was built for."""
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"{type(self).__name__} expects (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
            )

    def as_columns(self, x: Tensor) -> Tensor:
        """Return the pixels of `x` `(B, C, H, W)` in the order of the tokens: `(B, C, T, 1)`."""
        columns = x.flatten(2)[..., None]
        return columns.flip(2) if self.backwards else columns

    def as_image(self, columns: Tensor) -> Tensor:
        """Return `(B, C, T, 1)` in the order of the tokens as an image: `(B, C, H, W)`."""
        columns = columns.flip(2) if self.backwards else columns
        return columns.reshape(len(columns), *self.shape)

    def tokens_of(self, columns: Tensor) -> Tensor:
        """Return tokens `(B, T, width)` of pixels `(B, C, T, 1)`."""
        return self.enter(self.limit(columns).squeeze(3).transpose(1, 2))

    def known(self, x: Tensor, context: Context | None) -> Tensor:
        """Return what is added to each token, `(B, T, width)`: its place, and the context of the pixel it steers."""
        known = self.positions.expand(len(x), -1, -1)
        if self.embedding is not None:
            known = known + self.embedding(labels_for(context, x))[:, None]
        if self.of_features is not None:
            features = self.as_columns(features_at(context, x, self.context_channels))
            known = known + self.of_features(features.squeeze(3).transpose(1, 2))
        return known

    def steer(self, columns: Tensor, known: Tensor) -> Tensor:
        """Return the raw steering values `(B, num_raw * C, T, 1)` of all tokens, at the precision of the pixels."""
        start = self.start.expand(len(columns), 1, -1)
        tokens = torch.cat((start, self.tokens_of(columns[:, :, :-1])), 1)
        return self.as_raw(self.transformer(tokens + known), columns)

    def as_raw(self, steered: Tensor, like: Tensor) -> Tensor:
        """Return what the elementwise map is steered by, `(B, num_raw * C, T, 1)`, from the transformer's output."""
        return self.leave(self.norm(steered)).transpose(1, 2)[..., None].to(like.dtype)


def both(tokens: Tensor, guidance: Guidance | None) -> Tensor:
    """Return the tokens, twice behind each other if they are also to be read under the dropped label."""
    return tokens if guidance is None else torch.cat((tokens, tokens))
