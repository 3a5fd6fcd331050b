"""Training whose memory does not grow with the number of steps."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain as joined
from typing import Any

import torch
from torch import Tensor

from flows.autograd import refuse, refuse_more_than_first_order, refuse_transforms
from flows.bijection import Bijection, Vjp
from flows.bijections.linear import ChannelLinear, WeightAndBias, affines, with_inverses
from flows.context import Context, entries
from flows.pull_back import pull_back


def memory_flat(
    bijections: Sequence[Bijection],
    x: Tensor,
    context: Context | None,
    prepared: Mapping[Bijection, tuple[WeightAndBias, Tensor]],
    note_drift: Callable[[Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Apply bijections one after the other, and keep only input and output for the backward pass.

    The backward pass rebuilds the tensors in between by the inverses: less memory for more time (Gomez et al. 2017,
    arXiv:1707.04585). Parameters are inputs of the nodes of the graph, because hooks on parameters, such as the hooks
    of DDP, need this.

    Args:
        bijections: at least one, in the order in which they are applied.
        x: `(B, C, H, W)`.
        context: the context of all bijections.
        prepared: the arguments of `ChannelLinear.transform`, for the layers that run as matrices.
        note_drift: called at the end of the backward pass, with the largest error of the last rebuilt tensor.

    Returns:
        `z` and `log_det` `(B,)` in nats.

    Raises:
        ValueError: under a transform of `torch.func`, or if a second derivative is taken; see `plain_autograd`.
    """
    refuse_transforms()
    prepared = {layer: it for layer, it in prepared.items() if layer is not bijections[0]}  # its input is known
    tape = Tape(bijections, [layer for layer in prepared if isinstance(layer, ChannelLinear)], note_drift)
    x = _Matrices.apply(tape, x, *tape.matrix_parameters())
    log_dets = []
    for place, bijection in enumerate(bijections):
        runs_as_matrix = bijection in prepared
        own = [] if runs_as_matrix else bijection.parameters()
        given = () if runs_as_matrix or not bijection.takes_context else entries(context)
        x, log_det = _Rebuilt.apply(tape, place, prepared.get(bijection), len(given), x, *given, *own)
        log_dets.append(log_det)
    return x, torch.stack(log_dets).sum(0)


class Tape:
    """What the backward pass needs.

    Args:
        bijections: in the order in which they are applied.
        layers: the bijections that run as matrices.
        note_drift: called with the largest error of the last rebuilt tensor.
    """

    NUM_TOGETHER = 8
    """The number of layers whose matrices are inverted at once: few operators, and memory that does not grow."""

    z: Tensor
    """The output of the bijection that is next in the backward pass."""

    def __init__(
        self, bijections: Sequence[Bijection], layers: list[ChannelLinear], note_drift: Callable[[Tensor], None]
    ) -> None:
        self.bijections = bijections
        self.layers = layers
        self.note_drift = note_drift
        self.versions = None if torch.compiler.is_compiling() else self._versions()
        self.matrices: dict[Bijection, tuple[WeightAndBias, WeightAndBias]] = {}
        self.gradients: dict[Bijection, WeightAndBias] = {}

    def check_parameters(self) -> None:
        """Raise ValueError if the parameters are not those of the forward pass, from which the gradients would be."""
        if self.versions is not None and self._versions() != self.versions:
            raise ValueError(
                "the parameters have changed since the forward pass, and memory-flat training needs them again: go "
                "back before an optimizer steps and within torch.func.functional_call, or compute the loss inside "
                "flows.plain_autograd()"
            )

    def _versions(self) -> list[tuple[int, int]]:
        """Return which parameters there are, and how often each one was changed."""
        parameters = joined.from_iterable(bijection.parameters() for bijection in self.bijections)
        return [(id(parameter), parameter._version) for parameter in parameters]

    def matrix_parameters(self) -> list[Tensor]:
        """Return the parameters of the layers that run as matrices, each once."""
        return list(dict.fromkeys(parameter for layer in self.layers for parameter in layer.parameters()))

    def vjp(
        self, bijection: Bijection, z: Tensor, grad_z: Tensor, grad_log_det: Tensor, context: tuple[Tensor, ...]
    ) -> Vjp:
        """Do the same as `Bijection.vjp`, but keep the gradients with respect to matrices until all are computed."""
        if bijection not in self.layers:
            return bijection.vjp(z, grad_z, grad_log_det, *bijection.read(context or None))
        assert isinstance(bijection, ChannelLinear)
        if bijection not in self.matrices:
            end = self.layers.index(bijection) + 1
            layers = self.layers[max(0, end - self.NUM_TOGETHER) : end]
            with torch.no_grad():
                self.matrices = dict(zip(layers, with_inverses(layers, z), strict=True))
        x, grad_x, (grad_weight, grad_bias) = bijection.vjp_through(*self.matrices[bijection], z, grad_z, grad_log_det)
        if bijection in self.gradients:  # it is used in another place, too
            of_weight, of_bias = self.gradients[bijection]
            grad_weight, grad_bias = grad_weight + of_weight, grad_bias + of_bias
        self.gradients[bijection] = grad_weight, grad_bias
        return x, grad_x, [], []


class _Matrices(torch.autograd.Function):
    """The step from parameters to matrices, for all layers: the first node, so that its backward runs last."""

    @staticmethod
    def forward(ctx: Any, tape: Tape, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.tape = tape
        return x.view_as(x)

    jvp = staticmethod(refuse)

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor) -> tuple[Tensor | None, ...]:
        refuse_more_than_first_order(grad_x)
        tape = ctx.tape
        gradients = list(joined.from_iterable(tape.gradients.pop(layer) for layer in tape.layers))
        with torch.enable_grad():
            outputs = list(joined.from_iterable(affines(tape.layers, grad_x)))
        return None, grad_x, *pull_back(outputs, gradients, tape.matrix_parameters())


class _Rebuilt(torch.autograd.Function):
    """A bijection that keeps no tensor of its own for its backward, except at the two ends of the chain."""

    @staticmethod
    def forward(
        ctx: Any, tape: Tape, place: int, prepared: Any, num_entries: int, x: Tensor, *given_and_parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        bijection, is_last = tape.bijections[place], place == len(tape.bijections) - 1
        context = given_and_parameters[:num_entries]
        if prepared is None:
            z, log_det = bijection(x, *bijection.read(context or None))
        else:
            assert isinstance(bijection, ChannelLinear)
            z, log_det = bijection.transform(x, *prepared)
        ctx.tape, ctx.bijection = tape, bijection
        ends_way_back = place == 0 or not ctx.needs_input_grad[4]
        ctx.save_for_backward(x if ends_way_back else None, z if is_last else None, *context)
        device = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return z, log_det

    jvp = staticmethod(refuse)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        refuse_more_than_first_order(grad_z)
        tape, bijection = ctx.tape, ctx.bijection
        x, z, *context = ctx.saved_tensors
        context = tuple(context)
        if z is not None:
            tape.check_parameters()
        z = tape.z if z is None else z
        device, dtype, enabled = ctx.autocast
        with torch.autocast(device, dtype, enabled):
            if x is None:
                tape.z, grad_x, of_parameters, of_entries = tape.vjp(bijection, z, grad_z, grad_log_det, context)
            else:
                true_z, grad_x, of_parameters, of_entries = bijection.vjp_at(
                    x, grad_z, grad_log_det, *bijection.read(context or None)
                )
                tape.note_drift((true_z - z).abs().max())
        return None, None, None, None, grad_x, *of_entries, *of_parameters
