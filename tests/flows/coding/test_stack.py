"""A stack of uniform numbers gives back what it got, and takes as many bits as they are worth."""

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("constriction")

from flows.coding.codec import starting_words
from flows.coding.stack import BitStack


def sizes(largest: int, count: int = 4000) -> Tensor:
    """Return sizes from 1 to `largest`, evenly over their logarithms."""
    return (largest ** torch.rand(count, dtype=torch.double, generator=torch.Generator().manual_seed(1))).long()


@pytest.mark.parametrize("largest", [2, 4096, 2**23, 2**24 + 1, 2**40, 2**51 + 12345])
def test_numbers_come_back_and_leave_the_stack_as_it_was(largest: int) -> None:
    start = starting_words(10)
    stack = BitStack(start)
    below = sizes(largest)
    values = (torch.rand(len(below), dtype=torch.double) * below).long()
    stack.push(values, below)
    assert torch.equal(stack.pop(below), values) and np.array_equal(stack.words(), start)


@pytest.mark.parametrize("largest", [2, 3, 4095, 4097, 2**20, 2**23 + 1, 3 * 2**24, 2**50])
def test_a_number_takes_as_many_bits_as_it_is_worth(largest: int) -> None:
    stack = BitStack(starting_words(1))
    before = stack.num_words
    below = torch.full((20_000,), largest)
    values = (torch.rand(len(below), dtype=torch.double) * below).long()
    stack.push(values, below)
    bits = 32 * (stack.num_words - before) / len(below)
    worth = torch.tensor(float(largest)).log2().item()
    assert worth - 0.005 <= bits <= worth + 0.005


def test_bits_that_are_popped_are_evenly_spread_and_can_be_pushed_back() -> None:
    start = starting_words(4000)
    stack = BitStack(start)
    below = torch.full((20_000,), 1000)
    found = stack.pop(below)
    assert found.min() == 0 and found.max() == 999
    assert (found.double().mean() - 499.5).abs() < 4 * 1000 / (12 * 20_000) ** 0.5
    assert stack.least_words == stack.num_words < len(start)
    stack.push(found, below)
    assert np.array_equal(stack.words(), start)


def test_one_value_takes_no_bits() -> None:
    stack = BitStack(starting_words(1))
    stack.push(torch.zeros(100, dtype=torch.long), 1)
    assert np.array_equal(stack.words(), starting_words(1))
    assert torch.equal(stack.pop(torch.ones(3, dtype=torch.long)), torch.zeros(3, dtype=torch.long))
