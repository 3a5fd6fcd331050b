"""Muon: gradient descent with momentum, where all singular values of a step are about the same."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the quintic iteration. Jordan et al. chose them for a fast start; singular values end between 0.7 and 1.2."""


KERNEL = re.compile(r"(.*\.)?(weight|weight_v|weight_orig|parametrizations\.weight\.original1?)")
"""Names of kernels in convolutions: plain, or under torch's weight or spectral normalisation, or pruned."""


class Muon(Adam):
    """Muon for kernels of convolutions, each seen as a matrix `(out, in * height * width)`; Adam for everything else.

    The momentum of a matrix is replaced by roughly the nearest orthogonal matrix. The result is scaled to the size of
    Adam's steps, so that both parts share one learning rate. (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; scale after Liu et al. 2025, arXiv:2502.16982, equation 4.) Kernels of
    the same shape are treated together, in one batch of matrix products.

    Args:
        named_parameters: all parameters; Muon is used for the kernels of convolutions.
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
        self.kernels = [p for name, p in parameters if p.dim() == 4 and KERNEL.fullmatch(name)]
        self.momentum = momentum
        self.num_iterations = num_iterations

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; kernels and parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        (group,) = self.param_groups
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
        for kernel in self.kernels:
            if kernel.grad is not None:
                by_shape.setdefault((len(kernel), kernel[0].numel()), []).append(kernel)
        for shape, alike in by_shape.items():
            self._step_matrices(alike, shape, group["lr"])
        gradients = [kernel.grad for kernel in self.kernels]
        for kernel in self.kernels:
            kernel.grad = None  # so that Adam leaves it alone
        super().step()
        for kernel, gradient in zip(self.kernels, gradients, strict=True):
            kernel.grad = gradient
        return loss

    def _step_matrices(self, kernels: list[nn.Parameter], shape: tuple[int, int], lr: float) -> None:
        """Move kernels that are matrices of one shape."""
        for kernel in kernels:
            if "momentum" not in self.state[kernel]:
                self.state[kernel]["momentum"] = torch.zeros_like(kernel)
                self.state[kernel]["step"] = torch.zeros(())  # Adam looks for it when it loads its state
        moments: list[Any] = [self.state[kernel]["momentum"] for kernel in kernels]
        gradients: list[Any] = [kernel.grad for kernel in kernels]
        torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, moments, self.momentum)
        matrices = torch.stack([tensor.reshape(shape) for tensor in ahead])
        steps = orthogonalize(matrices, self.num_iterations) * (-lr * 0.2 * max(shape) ** 0.5)
        for kernel, step in zip(kernels, steps, strict=True):
            kernel.add_(step.view_as(kernel))


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
