"""Coupling layers: one part of the image steers an elementwise map of the other."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flows.bijection import Bijection, Vjp, detached
from flows.bijections.elementwise import ElementwiseMap
from flows.bijections.mask import ChannelMask, CheckerboardMask
from flows.context import Context, entries, joined
from flows.pull_back import pull_back


class Coupling(Bijection):
    """Keep one part of the image and map the other part elementwise, steered by a network that reads the first part.

    Args:
        channels: C of the image.
        mask: which part is kept and conditions the other.
        elementwise: the map of the other part.
        make_conditioner: `(in_channels, out_channels) -> network`; the only place where autocast may lower
            the precision.
        context_channels: E, the number of features that the network also reads; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        mask: ChannelMask | CheckerboardMask,
        elementwise: ElementwiseMap,
        make_conditioner: Callable[[int, int], nn.Module],
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.mask = mask
        self.elementwise = elementwise
        self.context_channels = context_channels
        self.conditioner = make_conditioner(
            mask.part_channels + context_channels, elementwise.num_raw * mask.part_channels
        )

    def steer(self, x1: Tensor, context: Context | None) -> Tensor:
        """Return the raw steering values for the transformed part, at the precision of `x1`."""
        return self.conditioner(joined(x1, context, self.context_channels)).to(x1.dtype)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        x1, x2 = self.mask.split(x)
        z2, log_scale = self.elementwise(x2, self.steer(x1, context))
        return self.mask.merge(x1, z2), self.mask.select(log_scale).sum((1, 2, 3))

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        self.check_shape(z)
        z1, z2 = self.mask.split(z)
        return self.mask.merge(z1, self.elementwise.inverse(z2, self.steer(z1, context)))

    def vjp(self, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: Context | None = None) -> Vjp:
        """Do the same as `Bijection.vjp` with one evaluation of the conditioner, which reads the unchanged part."""
        of_parts = [*self.elementwise.parameters(), *self.conditioner.parameters()]
        if len(of_parts) != len(list(self.parameters())):  # some are shared, or in another part, such as the mask
            return super().vjp(z, grad_z, grad_log_det, context)
        z1, z2 = self.mask.split(z.detach())
        grad_z1, grad_z2 = self.mask.split(grad_z)
        x1, context = z1.requires_grad_(), detached(context)
        with torch.enable_grad():
            raw = self.steer(x1, context)
        grad_log_scale = self.mask.select(grad_log_det[:, None, None, None].expand_as(z2))
        x2, grad_x2, grad_raw, of_elementwise = self.elementwise.vjp(z2, raw.detach(), grad_z2, grad_log_scale)
        given, parameters = entries(context), list(self.conditioner.parameters())
        grad_x1, *gradients = pull_back((raw,), (grad_raw,), [x1, *given, *parameters])
        assert grad_x1 is not None
        of_context, of_conditioner = gradients[: len(given)], gradients[len(given) :]
        x = self.mask.merge(x1.detach(), x2)
        return x, self.mask.merge(grad_z1 + grad_x1, grad_x2), [*of_elementwise, *of_conditioner], of_context
