"""Points in the plane, and the predictions of networks all over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.lessons.networks import probabilities

SIDE = 3.0  # the square that is drawn reaches from -SIDE to SIDE
CELLS = 37  # of the drawn grid, along a side


@dataclass(frozen=True)
class Points:
    """Places ``(n, 2)`` and their classes ``(n,)``."""

    x: Tensor
    y: Tensor


def clouds(each: int, generator: torch.Generator, spread: float = 0.6) -> Points:
    """Two Gaussian clouds, class 0 around (-1.2, 0) and class 1 around (1.2, 0), ``each`` points a class."""
    y = torch.arange(2).repeat_interleave(each)
    center = torch.stack([2.4 * y - 1.2, torch.zeros(2 * each)], 1)
    return Points(center + spread * torch.randn(2 * each, 2, generator=generator), y)


def axis(side: float = SIDE, cells: int = CELLS) -> Tensor:
    return torch.linspace(-side, side, cells)


def grid(side: float = SIDE, cells: int = CELLS) -> Tensor:
    """All places of the grid, row by row from below, ``(cells^2, 2)``."""
    y, x = torch.meshgrid(axis(side, cells), axis(side, cells), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def landscape(weights: Sequence[Tensor]) -> Tensor:
    """Probability of class 1 at every place, ``(m, cells, cells)``: the boundary is where it is one half."""
    return probabilities(weights, grid())[..., 1].view(-1, CELLS, CELLS)
