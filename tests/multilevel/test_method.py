"""The n-level gradient method: closed forms, finite differences, projections, early stopping, fresh starts."""

import math

import pytest
import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.multilevel.method import Level, Point, minimize, unroll, value_and_gradient

S, A, P2 = 0.7, -0.4, 0.3  # starts of the last and the middle player, and a target of the middle one


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def squares(*terms: Tensor) -> Tensor:
    return sum(t.square().sum(1) for t in terms)  # type: ignore[return-value]


def quadratic(
    middle: int, last: int, start: Tensor | None = None, steps: int = 1, **top: object
) -> list[Level]:
    """Three players whose answers are linear; the second one's loss depends on the third one's answer."""
    x = column(0.5, -2.0) if start is None else start
    return [
        Level(lambda p: squares(p[2] - p[0], p[0]), x, steps, 0.1, **top),  # type: ignore[arg-type]
        Level(lambda p: squares(p[1] - p[0], p[2] - A), torch.full_like(x, P2), middle, 0.15),
        Level(lambda p: squares(p[2] - p[1]), torch.full_like(x, S), last, 0.2),
    ]


def closed_form(x: Tensor, middle: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_2, x_3, F_1 and dF_1/dx_1 after so many steps, from the recursions of linear maps."""
    r = (1 - 2 * 0.2) ** last  # x_3 = r S + (1 - r) x_2
    k = 1 - r
    q = (1 - 2 * 0.15 * (1 + k**2)) ** middle
    fixed = (x - k * (r * S - A)) / (1 + k**2)
    x2 = q * P2 + (1 - q) * fixed
    x3 = r * S + k * x2
    slope = k * (1 - q) / (1 + k**2)  # dx_3/dx_1
    return x2, x3, ((x3 - x) ** 2 + x**2).squeeze(1), 2 * (x3 - x) * (slope - 1) + 2 * x


@pytest.mark.parametrize(("middle", "last"), [(1, 1), (4, 3), (30, 3), (5, 40)])
def test_three_levels_equal_the_closed_form(middle: int, last: int) -> None:
    x = column(0.5, -2.0)

    value, gradient, point = value_and_gradient(quadratic(middle, last), x)

    for found, expected in zip((*point[1:], value, gradient), closed_form(x, middle, last), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


def test_projected_descent_ends_in_the_minimum_of_the_unrolled_problem() -> None:
    solution = minimize(quadratic(5, 4, steps=200))

    *_, gradient = closed_form(solution.point[0], 5, 4)
    assert gradient.abs().max() < 1e-8
    assert len(solution.outer[0]) <= 200 and [len(c) for c in solution.inner] == [6, 5]
    assert (solution.outer[0].diff(dim=0) <= 1e-15).all() and (solution.inner[1].diff(dim=0) <= 0).all()


def smooth_tower(levels: int, games: int = 3) -> list[Level]:
    """Players who look at everybody, none of them linear."""
    draws = derive(0, "tower")
    mixes = torch.randn(levels, levels, generator=draws, dtype=torch.float64)

    def objective(mix: Tensor) -> object:
        def value(point: Point) -> Tensor:
            mixed = sum(weight * part for weight, part in zip(mix, point, strict=True))
            return (torch.sin(mixed) + 0.3 * torch.stack(point).square().sum(0)).sum(1)

        return value

    starts = torch.randn(levels, games, 2, generator=draws, dtype=torch.float64)
    return [Level(objective(mix), start, 3, 0.1) for mix, start in zip(mixes, starts, strict=True)]  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_hypergradient_agrees_with_central_differences(count: int) -> None:
    levels, h = smooth_tower(count), 1e-5
    x = levels[0].start

    _, gradient, _ = value_and_gradient(levels, x)

    for place in range(2):
        shift = torch.zeros_like(x)
        shift[:, place] = h
        difference = (value_and_gradient(levels, x + shift)[0] - value_and_gradient(levels, x - shift)[0]) / (
            2 * h
        )
        torch.testing.assert_close(gradient[:, place], difference, rtol=1e-7, atol=1e-9)


def test_a_descent_does_not_remember_the_one_before_it() -> None:
    """The trap: one shared start, from which the second descent's gradient runs through the first's answer."""
    levels = smooth_tower(3)
    middle, last = levels[1], levels[2]
    x1, x2 = levels[0].start, middle.start

    for _ in range(3):  # the same by hand, everything above a constant in each gradient of the last player

        def answer(x2: Tensor) -> Tensor:
            x3 = last.start
            for _ in range(3):
                x3 = x3 - 0.1 * torch.func.grad(lambda z: last.objective((x1, x2, z)).sum())(x3)  # noqa: B023
            return x3

        x2 = x2 - 0.1 * torch.func.grad(lambda z: middle.objective((x1, z, answer(z))).sum())(x2)  # noqa: B023
    found = unroll(levels, (x1,), keep=False)

    torch.testing.assert_close(found, (x2, answer(x2)), rtol=1e-12, atol=0)


def test_games_do_not_see_each_other() -> None:
    together = minimize(quadratic(3, 3, column(0.5, -2.0), steps=20, tolerance=1e-4))
    alone = minimize(quadratic(3, 3, column(-2.0), steps=20, tolerance=1e-4))

    assert torch.equal(together.point[0][1:], alone.point[0]) and torch.equal(together.steps[1:], alone.steps)


def test_every_player_stays_where_it_may() -> None:
    visited: list[Point] = []
    levels = quadratic(6, 6, column(3.0, -3.0), steps=30)
    boxes = [(1.0, 2.0), (-0.1, 0.1), (0.5, 0.6)]
    held = [
        Level(
            v.objective, v.start.clamp(*box), v.iterations, v.step, project=lambda x, box=box: x.clamp(*box)
        )
        for v, box in zip(levels, boxes, strict=True)
    ]

    solution = minimize(held, watch=lambda k, point: visited.append(point))

    for point in [*visited, solution.point]:
        for part, (low, high) in zip(point, boxes, strict=True):
            assert part.min() >= low and part.max() <= high
    torch.testing.assert_close(solution.point[0], column(1.0, 1.0))  # the free minimum lies below the box


def test_tolerance_ends_a_descent_early() -> None:
    calls: list[int] = []

    def counted(point: Point) -> Tensor:
        calls.append(1)
        return squares(point[1] - point[0])

    top = Level(lambda p: squares(p[0]), column(1.0), 1, 0.1)
    below = Level(counted, column(0.0), 1000, 0.25, tolerance=1e-6)
    (x,) = unroll([top, below], (column(1.0),), keep=False)

    assert len(calls) < 30 and abs(x.item() - 1) < 1e-5


def test_patience_ends_the_first_player_and_keeps_its_lowest_point() -> None:
    overshooting = Level(
        lambda p: squares(p[0]), column(1.0, 0.001), 500, 1.05
    )  # each step lands further out

    solution = minimize([overshooting], patience=4)

    assert len(solution.outer[0]) == 5 and solution.steps.tolist() == [4, 4]
    assert torch.equal(solution.point[0], overshooting.start)


def test_a_game_that_diverges_is_named_and_leaves_the_others_alone() -> None:
    def runaway(point: Point) -> Tensor:  # without a minimum in the second game
        return squares(point[1] - point[0]) - column(0.0, 1e9).squeeze(1) * point[1].pow(4).sum(1)

    top = Level(lambda p: squares(p[1]), column(0.3, 0.3), 5, 0.1)
    solution = minimize([top, Level(runaway, column(0.1, 0.1), 20, 0.1)])

    assert solution.diverged.tolist() == [False, True] and math.isfinite(solution.point[1][0].item())


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], "at least one player"),
        ([Level(lambda p: squares(p[0]), column(1.0), 0, 0.1)], "takes 0 steps"),
        (
            [*quadratic(1, 1)[:2], Level(lambda p: squares(p[2]), column(1.0), 1, 0.1)],
            "player 3 starts at shape",
        ),
        (
            [
                quadratic(1, 1)[0],
                Level(squares, column(1.0, 1.0), 1, 0.1, gradient=lambda u: u[0]),
                quadratic(1, 1)[2],
            ],
            "player 2 has players below",
        ),
    ],
)
def test_levels_that_do_not_fit_are_refused(levels: list[Level], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        minimize(levels)
