"""Trilevel against bilevel over penalties, noise on the test inputs and random splits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from poisonlab.multilevel import poisoning
from poisonlab.multilevel.data import Table, split
from poisonlab.multilevel.method import Point, Solution, minimize
from poisonlab.multilevel.poisoning import Regression
from poisonlab.multilevel.spec import MAX_STEPS, Order, Outcome, Rules, SweepSpec


@dataclass(frozen=True)
class Played:
    """One model and penalty on every split.

    Attributes:
        outcomes: one a seed.
        strengths: lambda after each step, ``(steps, seeds)``.
        weights: the learner's answer to it, ``(steps, seeds, d)``.
        perturbation: P of every seed, ``(seeds, n, d)``; ``None`` in the bilevel game.
    """

    outcomes: list[Outcome]
    strengths: Tensor
    weights: Tensor
    perturbation: Tensor | None


def play(
    data: Regression,
    rules: Rules,
    penalty: float | None,
    order: Order,
    step: Callable[[int], None] = lambda k: None,
) -> Played:
    """The trilevel game at a penalty, or without one the bilevel game, on every split at once.

    Args:
        step: called with the number of every step of the hyperparameter.
    """
    trilevel = penalty is not None
    prices = data.x.new_full((len(data.x),), penalty or 0.0)
    levels = poisoning.trilevel(data, prices, order, rules) if trilevel else poisoning.bilevel(data, rules)
    strengths: list[Tensor] = []
    weights: list[Tensor] = []

    def watch(k: int, point: Point) -> None:
        step(k)
        strengths.append(point[0].flatten())
        weights.append(poisoning.weights_of(point, order if trilevel else None))

    solution = minimize(levels, rules.patience, watch)
    perturbation = poisoning.perturbation_of(solution.point, order) if trilevel else None
    theta = poisoning.weights_of(solution.point, order if trilevel else None)
    return Played(
        _outcomes(data, penalty, solution, theta, perturbation),
        torch.stack(strengths),
        torch.stack(weights),
        perturbation,
    )


def sweep(
    table: Table, spec: SweepSpec, send: Callable[[int, int], None] = lambda step, total: None
) -> list[Outcome]:
    """Every game of a sweep.

    Args:
        send: takes steps done and steps in all; what it raises ends the sweep.

    Raises:
        ValueError: a sweep that would take hours. TableError: too few rows.
    """
    if spec.last_steps > MAX_STEPS:
        asked = f"{spec.last_steps:,} steps of the last player, at most {MAX_STEPS:,} are taken"
        raise ValueError(
            f"this sweep asks for {asked}: lower the steps of a player, or ask for fewer penalties"
        )
    data = split(table, spec.train_rows, spec.validation_rows, spec.seeds)
    games = (None, *spec.penalties)
    steps_a_game = spec.rules.outer_steps
    total = len(games) * steps_a_game

    def report(done: int, k: int) -> None:
        send(done + k, total)

    found = []
    for number, penalty in enumerate(games):
        report_step = partial(report, number * steps_a_game)
        found += play(data, spec.rules, penalty, spec.order, report_step).outcomes
    send(total, total)
    return found


def _outcomes(
    data: Regression, penalty: float | None, solution: Solution, theta: Tensor, perturbation: Tensor | None
) -> list[Outcome]:
    bound = poisoning.bounding_penalty(theta)
    moved = torch.zeros(len(theta)) if perturbation is None else perturbation.square().mean((1, 2)).sqrt()
    columns = {
        "strength": solution.point[0].flatten(),
        "weight_norm": theta.norm(dim=1),
        "perturbation": moved,
        "validation_mse": poisoning.expected_mse(theta, data.x_validation, data.y_validation),
        "test_mse": poisoning.expected_mse(theta, data.x_test, data.y_test),
    }
    return [
        Outcome(
            model="bilevel" if penalty is None else "trilevel",
            penalty=penalty,
            seed=seed,
            bounded=penalty is None or bool(penalty > bound[seed]),  # false for what is not a number
            steps=int(solution.steps[seed]),
            **{name: _finite(values[seed].item()) for name, values in columns.items()},
        )
        for seed in range(len(theta))
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
