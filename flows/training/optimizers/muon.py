"""Muon: gradient descent with momentum, where all singular values of a step are about the same."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the quintic iteration. Jordan et al. chose them for a fast start; singular values end between 0.7 and 1.2."""


WEIGHT = re.compile(
    r"(?!(.*\.)?embedding\.weight$)(.*\.)?(weight|weight_v|weight_orig|parametrizations\.weight\.original1?)"
)
"""Names of weights: plain, or under torch's weight or spectral normalisation, or pruned. `embedding.weight` is none."""


FADED = 0.5
"""Momentum below this part of what gradients of pure noise would leave shrinks a step."""

MEMORY = 0.99
"""Part of the mean square of the norms of a matrix's gradients that is kept in a step."""


class Muon(Adam):
    """Muon for weights that are matrices, Adam for everything else.

    Matrices are those of 1x1 convolutions and of linear layers, and kernels of convolutions, each seen as a matrix
    `(out, in * height * width)`. An `embedding.weight` is not: each of its rows is a vector by itself.

    The momentum of a matrix is replaced by roughly the nearest orthogonal matrix. The result is scaled to the size of
    Adam's steps, so that both parts share one learning rate. (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; scale after Liu et al. 2025, arXiv:2502.16982, equation 4.) Matrices
    of the same shape are treated together, in one batch of matrix products.

    Where gradients fade, steps fade with them. In Jordan et al., a step has the same size however small the momentum
    has become. So the last gradient of a hidden channel that dies pushes it hundreds of steps further, and a rare image
    that still reaches it meets large weights. Here a step shrinks if the momentum is less than half of what it would be
    if the gradients were pure noise of the size that they had before.

    Args:
        named_parameters: all parameters with their names, which say what is a weight.
        lr: learning rate of both parts.
        momentum: Nesterov momentum of the matrices.
        num_iterations: number of iterations of the orthogonalisation.
        betas: of Adam.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float = 8e-3,
        momentum: float = 0.95,
        num_iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        if num_iterations < 1:
            raise ValueError(f"Invalid num_iterations: {num_iterations}")
        parameters = list(named_parameters)
        super().__init__(parameters, lr=lr, betas=betas, fused=True)
        self.matrices = [p for name, p in parameters if p.dim() in (2, 4) and WEIGHT.fullmatch(name)]
        self.momentum = momentum
        self.num_iterations = num_iterations

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        (group,) = self.param_groups
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
        for matrix in self.matrices:
            if matrix.grad is not None:
                by_shape.setdefault((len(matrix), matrix[0].numel()), []).append(matrix)
        for shape, alike in by_shape.items():
            self._step_matrices(alike, shape, group["lr"])
        gradients = [matrix.grad for matrix in self.matrices]
        for matrix in self.matrices:
            matrix.grad = None  # so that Adam leaves it alone
        super().step()
        for matrix, gradient in zip(self.matrices, gradients, strict=True):
            matrix.grad = gradient
        return loss

    def _step_matrices(self, matrices: list[nn.Parameter], shape: tuple[int, int], lr: float) -> None:
        """Move matrices of one shape."""
        for matrix in matrices:
            if "momentum" not in self.state[matrix]:
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
                self.state[matrix]["step"] = torch.zeros(())  # Adam looks for it when it loads its state
        moments: list[Any] = [self.state[matrix]["momentum"] for matrix in matrices]
        gradients: list[Any] = [matrix.grad for matrix in matrices]
        torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, moments, self.momentum)
        stacked = torch.stack([tensor.reshape(shape) for tensor in ahead])
        of_noise = ((1 - self.momentum) / (1 + self.momentum)) ** 0.5 * self._usual_norms(matrices)
        fading = stacked.norm(dim=(1, 2)) / (FADED * of_noise + 1e-30)
        sizes = -lr * 0.2 * max(shape) ** 0.5 * fading.clamp(max=1)
        steps = orthogonalize(stacked, self.num_iterations) * sizes[:, None, None]
        torch._foreach_add_([*matrices], [step.view_as(matrix) for matrix, step in zip(matrices, steps, strict=True)])

    def _usual_norms(self, matrices: list[nn.Parameter]) -> Tensor:
        """Return the root mean square of the norms of gradients of each matrix, this one included."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        squares = torch.stack(torch._foreach_norm(gradients)).square().unbind()
        for matrix, square in zip(matrices, squares, strict=True):
            if "mean_square" not in self.state[matrix]:
                self.state[matrix]["mean_square"] = square.clone()
        known = [self.state[matrix]["mean_square"] for matrix in matrices]
        torch._foreach_lerp_(known, squares, 1 - MEMORY)
        return torch.stack(known).sqrt()


def orthogonalize(matrices: Tensor, num_iterations: int) -> Tensor:
    """Return U V^T, roughly, of matrices U S V^T, `(B, M, N)`, by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
