"""The n-level gradient method (Sato, Tanaka, Takeda 2021, arXiv:2105.13954): descent in a tower of nested problems.

    min f_1(x_1, ..., x_n)  over x_1 in S_1,  where x_2 minimises f_2,  where ...  where x_n minimises f_n

Each player i >= 2 takes T_i steps on its own implicit objective F_i, which is f_i with all deeper players unrolled:

    x_i <- P_i(x_i - a_i dF_i/dx_i),   T_i times from its start

What is left is one function F_1 of x_1, minimised by projected gradient descent. The paper carries the derivatives
forward (its Algorithm 1); here reverse differentiation runs through the same steps and gives the same numbers.

Many independent games are played at once: every tensor has a leading axis of games.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Point = tuple[Tensor, ...]  # x_1, ..., x_n


def unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Level:
    """One player.

    Attributes:
        objective: f_i of ``(x_1, ..., x_n)``, ``(games,)``; differentiable as often as there are players above it.
        start: where each of its descents begins, ``(games, ...)``.
        iterations: T_i; for the first player, the most steps it takes.
        step: a_i, a number or a tensor that broadcasts to ``start``.
        project: the nearest allowed point; differentiable almost everywhere.
        tolerance: a game stops early when no coordinate moves further than this; 0 takes all steps.
        gradient: df_i/dx_i in closed form, for the last player only: ``gradient((x_1, ..., x_{n-1}))`` is a function
            of x_n. It saves one order of differentiation.
    """

    objective: Callable[[Point], Tensor]
    start: Tensor
    iterations: int
    step: float | Tensor
    project: Callable[[Tensor], Tensor] = unchanged
    tolerance: float = 0.0
    gradient: Callable[[Point], Callable[[Tensor], Tensor]] | None = None


@dataclass(frozen=True)
class Solution:
    """The last point of all players, and the way to it.

    Attributes:
        point: ``(x_1, ..., x_n)``, without derivatives.
        outer: one a level: f_i after each step of the first player, ``(steps, games)``.
        inner: one a level below the first: F_i along its last descent, ``(T_i + 1, games)``.
        steps: how many steps the first player took, ``(games,)``.
        diverged: games with a number that is not finite, ``(games,)``.
    """

    point: Point
    outer: list[Tensor]
    inner: list[Tensor]
    steps: Tensor
    diverged: Tensor


def minimize(
    levels: Sequence[Level], patience: int = 0, watch: Callable[[int, Point], None] | None = None
) -> Solution:
    """Projected gradient descent on F_1.

    Args:
        levels: from the first player to the last, at least one.
        patience: a game stops when F_1 has not fallen for so many steps and keeps its lowest point; 0 continues to
            the end and keeps the last.
        watch: called with the number and the point of every step, which it must not change. An exception ends the
            descent.

    Raises:
        ValueError: levels that do not fit together.
    """
    _check(levels)
    top = levels[0]
    games = len(top.start)
    x = top.start.detach()
    best = x
    lowest = x.new_full((games,), torch.inf)
    since = torch.zeros(games, dtype=torch.long, device=x.device)  # steps since the lowest value
    active = torch.ones_like(since, dtype=torch.bool)
    steps = torch.zeros_like(since)
    outer: list[list[Tensor]] = [[] for _ in levels]
    for k in range(top.iterations):
        value, gradient, point = value_and_gradient(levels, x)
        for seen, level in zip(outer, levels, strict=True):
            seen.append(value if level is top else level.objective(point))
        if watch is not None:
            watch(k, point)
        better = value < lowest
        since = torch.where(better, 0, since + 1)
        lowest = torch.where(better, value, lowest)
        best = torch.where(_wide(better, x), x, best)
        moved = top.project(x - top.step * gradient).detach()
        active = active & moved.flatten(1).isfinite().all(1) & (_reach(moved, x) > top.tolerance)
        if patience:
            active = active & (since < patience)
        if not active.any():
            break
        x = torch.where(_wide(active, x), moved, x)
        steps = steps + active
    inner: list[Tensor] = []
    x = best if patience else x
    point = (x, *unroll(levels, (x,), keep=False, curves=inner))
    finite = torch.stack([values.flatten(1).isfinite().all(1) for values in point]).all(0)
    return Solution(point, [torch.stack(seen) for seen in outer if seen], inner, steps, ~finite)


def value_and_gradient(levels: Sequence[Level], x: Tensor) -> tuple[Tensor, Tensor, Point]:
    """F_1 at x_1, its gradient, and the point that the players below answer with."""
    x = x.detach().requires_grad_()
    point = (x, *unroll(levels, (x,), keep=True))
    value = levels[0].objective(point)
    (gradient,) = torch.autograd.grad(value.sum(), x)  # games are independent: each keeps its own gradient
    return value.detach(), gradient, tuple(part.detach() for part in point)


def unroll(levels: Sequence[Level], upper: Point, keep: bool, curves: list[Tensor] | None = None) -> Point:
    """What the players below answer to ``upper``, ``(x_1, ..., x_{i-1})``: ``(x_i, ..., x_n)``.

    Args:
        keep: the answers stay differentiable in ``upper``.
        curves: takes F_i along the descent of each of these players, ``(T_i + 1, games)``.
    """
    if len(upper) == len(levels):
        return ()
    level = levels[len(upper)]
    slope = level.gradient(upper) if level.gradient else _slope(levels, upper, keep)
    x = _Fresh.apply(level.start, *upper)
    curve = []
    active = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for _ in range(level.iterations):
        if curves is not None:
            curve.append(_implicit(levels, upper, x).detach())
        moved = level.project(x - level.step * slope(x))
        if level.tolerance:  # game by game: a result must not depend on what it is batched with
            active = active & ~(_reach(moved, x) <= level.tolerance)
            moved = torch.where(_wide(active, x), moved, x)
        x = moved if keep else moved.detach()
        if not active.any():
            break
    if curves is not None:
        curves.append(torch.stack([*curve, _implicit(levels, upper, x).detach()]))
    return (x, *unroll(levels, (*upper, x), keep, curves))


def _implicit(levels: Sequence[Level], upper: Point, x: Tensor, keep: bool = False) -> Tensor:
    """F_i(x_1, ..., x_i), ``(games,)``."""
    point = (*upper, x)
    return levels[len(upper)].objective((*point, *unroll(levels, point, keep)))


def _slope(levels: Sequence[Level], upper: Point, keep: bool) -> Callable[[Tensor], Tensor]:
    """dF_i/dx_i as a function of x_i, through the answers of all deeper players."""

    def slope(x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(_implicit(levels, upper, x, keep=True).sum(), x, create_graph=keep)[0]

    return slope


class _Fresh(torch.autograd.Function):
    """The start of a descent as a new variable, made after everything above it and independent of all of it.

    Two descents that share one start are wrong: the gradient of the second also runs through the first, which the
    players above remember, and the time doubles with every step. Being younger than ``upper`` in the graph, the
    start also tells autograd where to stop, so that the time is linear in every T_i.
    """

    @staticmethod
    def forward(ctx: Any, start: Tensor, *upper: Tensor) -> Tensor:
        return start.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        inputs: int = len(ctx.needs_input_grad)
        return (None,) * inputs


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of games, ``(games,)``, for tensors shaped like ``like``."""
    return mask.view(-1, *[1] * (like.dim() - 1))


def _reach(moved: Tensor, x: Tensor) -> Tensor:
    """The furthest that a coordinate of each game moved, ``(games,)``."""
    return (moved - x).detach().abs().flatten(1).amax(1)


def _check(levels: Sequence[Level]) -> None:
    if not levels:
        raise ValueError("a game needs at least one player")
    for number, level in enumerate(levels, 1):
        if level.start.dim() < 2 or len(level.start) != len(levels[0].start):
            expected = f"({len(levels[0].start)}, ...)"
            raise ValueError(
                f"player {number} starts at shape {tuple(level.start.shape)}, expected {expected}"
            )
        if level.iterations < 1:
            raise ValueError(f"player {number} takes {level.iterations} steps, at least 1 is needed")
        if level.gradient is not None and level is not levels[-1]:
            raise ValueError(
                f"player {number} has players below: its gradient cannot have a closed form of its own"
            )
