"""Trilevel against bilevel over penalties, noise on the test inputs and random splits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from poisonlab.multilevel import poisoning
from poisonlab.multilevel.data import Table, split
from poisonlab.multilevel.method import Point, Solution, minimize
from poisonlab.multilevel.poisoning import Order, Regression, Rules
from poisonlab.spec.config import Config

Model = Literal["bilevel", "trilevel"]
MAX_STEPS = 2_000_000  # of the last player, in all of a sweep


class SweepSpec(Config):
    """Everything but the table that decides a sweep's numbers."""

    order: Order = Field("min_max_min", description="Who foresees whom")
    penalties: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(min_length=1, max_length=12)
    ] = Field((6.0, 10.0, 20.0, 30.0, 100.0), description="c, what the attacker pays")
    noises: Annotated[
        tuple[Annotated[float, Field(ge=0, le=10)], ...], Field(min_length=1, max_length=20)
    ] = Field(
        (0.0, 0.1, 0.3, 0.5, 0.7, 1.0),
        description="Deviation of the Gaussian noise on standardised test inputs",
    )
    seeds: int = Field(10, ge=2, le=50, description="Random splits")
    train_rows: int = Field(40, ge=5, le=500, description="Rows the learner fits and the attacker moves")
    validation_rows: int = Field(100, ge=5, le=2000, description="Untouched rows that lambda is evaluated on")
    rules: Rules = Rules()

    @field_validator("penalties", "noises")
    @classmethod
    def _each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(values)))

    @property
    def last_steps(self) -> int:
        """How many steps the last player takes, one penalty after the other."""
        rules = self.rules
        return (
            len(self.penalties) * rules.outer_steps * (rules.attacker_steps + 1) * (rules.learner_steps + 1)
        )


class Outcome(Config):
    """Where one game of a sweep ended; ``None`` stands for a number that is not finite."""

    model: Model
    penalty: float | None = Field(description="c; the bilevel game has none")
    seed: int = Field(ge=0)
    strength: float | None = Field(description="lambda")
    weight_norm: float | None = Field(description="|theta|")
    perturbation: float | None = Field(description="Root mean square of P")
    validation_mse: float | None
    test_mse: float | None = Field(description="Without noise")
    bounded: bool = Field(
        description="c exceeds d |theta|^2: no perturbation of these weights pays without end"
    )
    steps: int = Field(ge=0, description="Of the hyperparameter")

    def mse(self, noise: float) -> float | None:
        """Expected test error under Gaussian noise on the inputs."""
        if self.test_mse is None or self.weight_norm is None:
            return None
        return self.test_mse + noise**2 * self.weight_norm**2


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
