"""Each row comes once, whatever the number of rows, and each order of few rows is as likely as the others."""

import math
from collections import Counter

import pytest
import torch

from data.permutation import Permutation


@pytest.mark.parametrize("num_rows", [*range(1, 40), 99, 100, 101, 4095, 4096, 4097, 54_321])
def test_each_row_comes_once(num_rows: int) -> None:
    rows = Permutation(num_rows, "epoch", 0)[torch.arange(num_rows)]
    assert torch.equal(rows.sort().values, torch.arange(num_rows))


def test_an_entry_is_the_same_alone_and_among_others() -> None:
    order = Permutation(1000, "epoch", 0)
    rows = order[torch.arange(1000)]
    places = torch.tensor([[3, 999], [0, 3]])
    assert torch.equal(order[places], rows[places])
    assert all(order[torch.tensor(place)] == rows[place] for place in (0, 17, 999))


def test_it_depends_on_the_key_alone() -> None:
    places = torch.arange(100)
    torch.manual_seed(1)
    rows = Permutation(100, "epoch", 0, 7)[places]
    torch.manual_seed(2)
    assert torch.equal(rows, Permutation(100, "epoch", 0, 7)[places])
    others = [Permutation(100, *key)[places] for key in (("epoch", 0, 8), ("epoch", 1, 7), ("val", 0, 7))]
    assert not any(torch.equal(rows, other) for other in others)


@pytest.mark.parametrize("num_rows", [2, 3, 4])
def test_each_order_of_few_rows_is_as_likely_as_the_others(num_rows: int) -> None:
    num_orders = math.factorial(num_rows)
    draws = 400 * num_orders
    places = torch.arange(num_rows)
    found = Counter(tuple(Permutation(num_rows, "few", draw)[places].tolist()) for draw in range(draws))
    assert len(found) == num_orders
    assert all(abs(count - 400) < 5 * 400**0.5 for count in found.values())


@pytest.mark.parametrize("num_rows", [23, 100])
def test_neighbours_are_as_far_apart_as_in_a_uniform_permutation(num_rows: int) -> None:
    draws = 20 * num_rows
    orders = torch.stack([Permutation(num_rows, "pairs", draw)[torch.arange(num_rows)] for draw in range(draws)])
    steps = (orders[:, 1:] - orders[:, :-1]) % num_rows  # each step but 0 comes equally often
    counts = steps.flatten().bincount(minlength=num_rows).double()
    expected = steps.numel() / (num_rows - 1)
    assert counts[0] == 0
    assert (counts[1:] - expected).abs().max() < 5 * expected**0.5
    at_place = orders[:, 0].bincount(minlength=num_rows)
    assert (at_place - 20).abs().max() < 5 * 20**0.5


def test_a_permutation_holds_far_fewer_numbers_than_it_has_rows() -> None:
    order = Permutation(10**10, "many")
    rows = order[torch.arange(1000)]
    assert len(rows.unique()) == 1000 and rows.max() < 10**10
    assert rows.double().mean() / 10**10 == pytest.approx(0.5, abs=0.05)
    assert sum(shift.numel() for shifts in order.shifts for shift in shifts) < 10**6
