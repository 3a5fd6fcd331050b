"""Muon: steps with singular values alike for matrices, Adam for the rest."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import flows
from flows.training import Muon
from flows.training.optimizers.muon import orthogonalize


@pytest.mark.parametrize("shape", [(5, 3, 8), (2, 16, 4), (1, 6, 6)])
def test_orthogonalize_makes_singular_values_alike_and_keeps_their_vectors(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices, num_iterations=5)
    core = u.mT @ result @ vt.mT
    singular = core.diagonal(dim1=-2, dim2=-1)
    assert singular.min() > 0.5 and singular.max() < 1.3
    assert (core - torch.diag_embed(singular)).abs().max() < 1e-3


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3)
    )


def backward(net: nn.Module) -> None:
    net.zero_grad()
    net(torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1))).square().mean().backward()


def test_biases_step_as_under_adam_and_kernels_do_not() -> None:
    ours, reference = model(), model()
    optimizer, adam = (
        Muon(ours.named_parameters(), lr=0.01),
        torch.optim.Adam(reference.parameters(), lr=0.01, fused=True),
    )
    for net, stepping in (ours, optimizer), (reference, adam):
        backward(net)
        stepping.step()
    for (name, one), other in zip(ours.named_parameters(), reference.parameters(), strict=True):
        assert torch.equal(one, other) == ("bias" in name), name


def test_the_momentum_is_an_average_that_forgets_slowly() -> None:
    net = model()
    optimizer = Muon(net.named_parameters(), lr=0.01, momentum=0.9)
    expected = torch.zeros_like(net[2].weight)
    for _ in range(3):
        backward(net)
        expected = 0.9 * expected + 0.1 * net[2].weight.grad
        optimizer.step()
    torch.testing.assert_close(optimizer.state[net[2].weight]["momentum"], expected)


def test_a_step_is_the_orthogonalized_gradient_at_adams_size() -> None:
    net = model()
    before = net[2].weight.detach().clone()
    backward(net)
    Muon(net.named_parameters(), lr=0.01).step()
    step = (before - net[2].weight.detach()).flatten(1)
    expected = orthogonalize(net[2].weight.grad.flatten(1)[None], 5)[0] * 0.01 * 0.2 * 36**0.5
    torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-6)
    assert 0.001 < step.square().mean().sqrt() < 0.01


def test_where_gradients_fade_steps_fade_with_them() -> None:
    """A hidden channel that dies gets no gradient any more: its last one must not push it on and on."""
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([("weight", weight)], lr=0.01)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for step in range(400):
        before = weight.detach().clone()
        weight.grad = torch.randn(8, 8, generator=generator) if step < 100 else torch.zeros(8, 8)
        optimizer.step()
        sizes.append((weight.detach() - before).norm().item())
    usual = sizes[99]
    assert min(sizes[:100]) > 0.5 * usual
    assert sum(sizes[100:]) < 40 * usual
    assert sizes[-1] < 1e-4 * usual


def test_the_size_of_the_gradients_does_not_matter() -> None:
    finals = []
    for factor in (1e-2, 1.0):
        net = model()
        optimizer = Muon(net[2].named_parameters(), lr=0.01)
        for _ in range(5):
            backward(net)
            net[2].weight.grad *= factor
            optimizer.step()
        finals.append(net[2].weight.detach())
    torch.testing.assert_close(*finals, rtol=1e-2, atol=1e-3)


def test_it_goes_on_from_its_state_and_leaves_the_gradients() -> None:
    whole, broken = model(), model()
    one, other = Muon(whole.named_parameters()), Muon(broken.named_parameters())
    for _ in range(2):
        for net, optimizer in (whole, one), (broken, other):
            backward(net)
            optimizer.step()
    resumed = Muon(broken.named_parameters())
    resumed.load_state_dict(other.state_dict())
    for net, optimizer in (whole, one), (broken, resumed):
        backward(net)
        optimizer.step()
        assert all(parameter.grad is not None for parameter in net.parameters())
    for first, second in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(first, second)


def test_it_learns() -> None:
    net = model()
    optimizer = Muon(net.named_parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        backward(net)
        losses.append(net(torch.ones(1, 2, 5, 5)).square().mean().item())
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


def test_parameters_without_a_gradient_stay() -> None:
    net = model()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    Muon(net.named_parameters()).step()
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))


def test_a_momentum_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid momentum: 1"):
        Muon(model().named_parameters(), momentum=1)


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda conv: conv,
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.weight_norm,
        lambda conv: prune.l1_unstructured(conv, "weight", amount=0.5),
    ],
    ids=["plain", "weight norm", "spectral norm", "old weight norm", "pruned"],
)
def test_kernels_are_known_under_every_name_that_torch_gives_them(wrap: Callable[[nn.Module], nn.Module]) -> None:
    for net in (wrap(nn.Conv2d(3, 4, 3)), nn.Sequential(wrap(nn.Conv2d(3, 4, 3)))):
        (kernel,) = Muon(net.named_parameters()).matrices
        assert kernel.shape == (4, 3, 3, 3)


def test_matrices_are_those_of_linear_layers_and_1x1_convolutions_but_not_embeddings() -> None:
    shape = 1, 8, 8
    flow = flows.build("glow", image_shape=shape, num_levels=2, num_steps=2, hidden_channels=4, num_classes=3)
    names = {parameter: name for name, parameter in flow.named_parameters()}
    found = {names[parameter] for parameter in Muon(flow.named_parameters()).matrices}
    assert found == {name for name, parameter in flow.named_parameters() if re.search(r"(?<!embedding)\.weight$", name)}
    assert any(parameter.dim() == 2 for parameter in Muon(flow.named_parameters()).matrices)
    assert len(Muon(nn.Linear(3, 4).named_parameters()).matrices) == 1


def test_matrices_of_one_shape_step_together(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def noted(matrices: torch.Tensor, num_iterations: int) -> torch.Tensor:
        shapes.append(matrices.shape)
        return orthogonalize(matrices, num_iterations)

    monkeypatch.setattr("flows.training.optimizers.muon.orthogonalize", noted)
    blocks = {"top_prior": "autoregressive", "prior_blocks": 3, "prior_layers": 2, "prior_width": 32}
    flow = flows.build("glow", image_shape=(1, 8, 8), num_levels=1, num_steps=2, hidden_channels=4, **blocks)
    optimizer = Muon(flow.named_parameters())
    flow.log_prob(torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)).mean().backward()
    optimizer.step()
    assert len({shape[1:] for shape in shapes}) == len(shapes)
    assert sum(shape[0] for shape in shapes) == len(optimizer.matrices) > 20
