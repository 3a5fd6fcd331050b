"""Increasing maps of each entry between points of a grid, reversible to the point.

A real number v stands on a grid as the whole number v / STEP. A map is made straight within small cells: it takes the
`CELL` points of a cell to a run of points of another length. Bits from a stack choose the point in that run, and the
rest of the division goes back onto the stack. So a cell that grows takes bits and a cell that shrinks gives them: in
all, as many as the log-derivative says. (Local bits-back coding, Ho et al. 2019, arXiv:1905.08500, with the cells and
the uniform coder of iFlow, Zhang et al. 2021, arXiv:2111.00965.)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from flows.coding.stack import BitStack

STEP = 2.0**-36
"""Distance of neighbouring points."""

CELL = 2**14
"""Points of a cell."""

NUM_CELLS = 2**36
"""Cells on each side of 0: numbers up to 16,384 can be coded."""

STRAIGHT_CELLS = 2**20
"""Cells on each side of 0 that tell where a straight line leads."""

Map = Callable[[Tensor], Tensor]
"""A map of float64 entries that never falls."""


class CodingError(ValueError):
    """An image is too far from all that the flow knows, or the bits are not those of images."""


def values_at(points: Tensor) -> Tensor:
    """Return the numbers at points: float64, always in the same memory format."""
    return (points.double() * STEP).contiguous()


def points_near(values: Tensor) -> Tensor:
    """Return the points next to numbers, int64."""
    return (values / STEP).round().long()


def edge(f: Map, cells: Tensor) -> Tensor:
    """Return the point at which the image of a cell starts; `2 * cells` makes each image two points wide at least."""
    return points_near(f(cells.double() * (CELL * STEP))) + 2 * cells


def through(f: Map, points: Tensor, stack: BitStack, active: Tensor) -> Tensor:
    """Map points.

    Args:
        f: the map.
        points: int64.
        stack: from which bits come and to which they go.
        active: bool of the same shape, which entries are mapped.

    Raises:
        CodingError: if a number is too large.
    """
    cells = torch.div(points, CELL, rounding_mode="floor")
    if (cells[active].abs() >= NUM_CELLS).any():
        raise CodingError("an image is too far from all that the flow knows: leave it out, or take another flow")
    start, end = edge(f, cells), edge(f, cells + 1)
    width = torch.where(active, end - start, 1)
    total = (points - cells * CELL) * width + stack.pop(width)
    found = torch.div(total, CELL, rounding_mode="floor")
    stack.push(torch.where(active, total - found * CELL, 0), torch.where(active, CELL, 1))
    return torch.where(active, start + found, points)


def back_through(f: Map, points: Tensor, stack: BitStack, active: Tensor, num_cells: int = NUM_CELLS) -> Tensor:
    """Undo `through`, for a map that is defined on this many cells on each side of 0.

    Raises:
        CodingError: if the points are not those of images.
    """
    rest = stack.pop(torch.where(active, CELL, torch.ones_like(points)))
    found, left, width = undone(f, points, rest, active, num_cells)
    stack.push(left, width)
    return torch.where(active, found, points)


def undone(
    f: Map, points: Tensor, rest: Tensor, active: Tensor, num_cells: int = NUM_CELLS
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `back_through` does between its two uses of the stack.

    Returns:
        the points before the map, the numbers that go back onto the stack, and their sizes.
    """
    low, high = around(f, points, num_cells)
    while (high - low > 1).any():
        middle = torch.div(low + high, 2, rounding_mode="floor")
        above = edge(f, middle) <= points
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    start, end = edge(f, low), edge(f, high)
    if not ((start <= points) & (points < end))[active].all():
        raise CodingError("these bits are not those of images")
    width = torch.where(active, end - start, 1)
    total = (points - start) * CELL + rest
    within = torch.div(total, width, rounding_mode="floor")
    return low * CELL + within, torch.where(active, total - within * width, 0), width


def around(f: Map, points: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    """Return cells below and above those whose images hold points: near ones if the map is a straight line."""
    lowest, highest = torch.full_like(points, -num_cells), torch.full_like(points, num_cells)
    some = torch.full_like(points, min(STRAIGHT_CELLS, num_cells))
    start, end = edge(f, -some), edge(f, some)
    guess = ((points - start).double() * (2 * some) / (end - start)).floor().long() - some
    guess = guess.clamp(-num_cells + 1, num_cells - 2)
    low, high = guess - 1, guess + 2
    near = (edge(f, low) <= points) & (points < edge(f, high))
    return torch.where(near, low, lowest), torch.where(near, high, highest)
