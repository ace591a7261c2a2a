"""Hyperparameter learning under a poisoning adversary: three players, or two without an attacker.

The hyperparameter lambda weighs a regression's penalty and is evaluated on untouched validation rows; the learner fits
the weights theta; the attacker moves the inputs of the n training rows by P and pays for it:

    f_1 = (1/a) |y_v - X_v theta|^2                                     hyperparameter
    loss = (1/n) |y - (X+P) theta|^2 + (e^lambda / d) |theta|_{1,mu}    learner
    gain = (1/n) |y - (X+P) theta|^2 - (c / (n d)) |P|^2                attacker, who maximises it

``min_max_min`` (Sato, Tanaka, Takeda 2021): the attacker moves first and foresees the learner, who is the last player.
``min_min_max`` (the other order, argued for in later work): the learner moves first and foresees the attacker.
``bilevel``: the same f_1 and loss with P = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.multilevel.method import Level, Point
from poisonlab.multilevel.spec import Order, Rules


@dataclass(frozen=True)
class Regression:
    """A regression problem for each game, standardised; inputs ``(games, rows, d)``, targets ``(games, rows, 1)``."""

    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor

    def take(self, games: Tensor) -> "Regression":
        """The problems with these numbers, in their order."""
        return Regression(*(part[games] for part in vars(self).values()))


def smooth_l1(x: Tensor, mu: float) -> Tensor:
    """|x| with a quartic inside ``[-mu, mu]``: value, slope and curvature agree at its ends."""
    quartic = 3 * mu / 8 + x.square() * (3 / (4 * mu) - x.square() / (8 * mu**3))
    return torch.where(x.abs() > mu, x.abs(), quartic)


def trilevel(data: Regression, penalty: Tensor, order: Order, rules: Rules) -> list[Level]:
    """The three players, first to last.

    Args:
        penalty: c of each game, ``(games,)``.
    """
    n, d = data.x.shape[1:]
    price = penalty.view(-1, 1, 1) / (n * d)
    last_is_learner = order == "min_max_min"

    def parts(point: Point) -> tuple[Tensor, Tensor, Tensor]:
        strength, second, third = point
        return (strength, second, third) if last_is_learner else (strength, third, second)

    def loss(point: Point) -> Tensor:
        strength, p, theta = parts(point)
        return _squared(data.y - (data.x + p) @ theta) + _penalty(strength, theta, rules.smoothing)

    def cost(point: Point) -> Tensor:  # the attacker's gain, to be minimised
        _, p, theta = parts(point)
        return (price * p.square()).sum((1, 2)) - _squared(data.y - (data.x + p) @ theta)

    def cost_slope(upper: Point) -> Callable[[Tensor], Tensor]:
        _, theta = upper
        pull = (data.y - data.x @ theta) @ theta.mT * (2 / n)
        identity = torch.eye(d, dtype=theta.dtype, device=theta.device)
        # (games, d, d), the same for every row of P
        curvature = 2 * price * identity - theta @ theta.mT * (2 / n)
        return lambda p: torch.baddbmm(pull, p, curvature)

    def loss_slope(upper: Point) -> Callable[[Tensor], Tensor]:
        return _loss_slope(upper[0], data.x + upper[1], data.y, rules.smoothing)

    attacker = Level(
        cost,
        torch.zeros_like(data.x),
        rules.attacker_steps,
        rules.attacker_step / price,
        tolerance=rules.tolerance,
        gradient=None if last_is_learner else cost_slope,
    )
    learner = _learner(data, loss, rules, loss_slope if last_is_learner else None)
    top = _hyperparameter(data, lambda point: parts(point)[2], rules)
    return [top, attacker, learner] if last_is_learner else [top, learner, attacker]


def bilevel(data: Regression, rules: Rules) -> list[Level]:
    """The two players without an attacker."""

    def loss(point: Point) -> Tensor:
        strength, theta = point
        return _squared(data.y - data.x @ theta) + _penalty(strength, theta, rules.smoothing)

    learner = _learner(
        data, loss, rules, lambda upper: _loss_slope(upper[0], data.x, data.y, rules.smoothing)
    )
    return [_hyperparameter(data, lambda point: point[1], rules), learner]


def weights_of(point: Point, order: Order | None) -> Tensor:
    """theta, ``(games, d)``; an order of ``None`` is the bilevel game."""
    return point[1 if order in (None, "min_min_max") else 2].squeeze(2)


def perturbation_of(point: Point, order: Order) -> Tensor:
    """P, ``(games, n, d)``."""
    return point[1 if order == "min_max_min" else 2]


def bounding_penalty(theta: Tensor) -> Tensor:
    """The penalty c above which no perturbation of fixed weights pays without end: d |theta|^2, ``(games,)``.

    Below it the gain grows with |P| along theta and only the finite number of steps bounds the attacker. A guide for
    ``min_max_min``, where the attacker foresees that the learner will answer.
    """
    return theta.shape[1] * theta.square().sum(1)


def expected_mse(theta: Tensor, x: Tensor, y: Tensor, noise: float = 0.0) -> Tensor:
    """Mean squared error under Gaussian noise on the inputs, ``(games,)``.

    In expectation over the noise, so nothing is drawn: mean (y - x theta)^2 + noise^2 |theta|^2.
    """
    return _squared(y - x @ theta[..., None]) + noise**2 * theta.square().sum(1)


def _hyperparameter(data: Regression, theta_of: Callable[[Point], Tensor], rules: Rules) -> Level:
    def validation(point: Point) -> Tensor:
        return _squared(data.y_validation - data.x_validation @ theta_of(point))

    start = data.x.new_zeros(len(data.x), 1, 1)
    within = (rules.lowest, rules.highest)
    return Level(validation, start, rules.outer_steps, rules.outer_step, project=lambda x: x.clamp(*within))


def _learner(
    data: Regression,
    loss: Callable[[Point], Tensor],
    rules: Rules,
    slope: Callable[[Point], Callable[[Tensor], Tensor]] | None,
) -> Level:
    start = data.x.new_zeros(len(data.x), data.x.shape[2], 1)
    return Level(
        loss, start, rules.learner_steps, rules.learner_step, tolerance=rules.tolerance, gradient=slope
    )


def _loss_slope(strength: Tensor, x: Tensor, y: Tensor, mu: float) -> Callable[[Tensor], Tensor]:
    """The gradient of the learner's loss; what does not change along its descent is computed once."""
    half = x.mT * (2 / x.shape[1])
    gram = half @ x  # (games, d, d)
    moment = half @ y  # (games, d, 1)
    weight = strength.exp() / x.shape[2]
    linear = weight * (1.5 / mu)
    cubic = weight * (0.5 / mu**3)

    def slope(theta: Tensor) -> Tensor:
        inside = theta.clamp(-mu, mu)
        return torch.baddbmm(moment, gram, theta, beta=-1) + inside * (linear - cubic * inside.square())

    return slope


def _penalty(strength: Tensor, theta: Tensor, mu: float) -> Tensor:
    return (strength.exp() * smooth_l1(theta, mu)).mean((1, 2))


def _squared(residual: Tensor) -> Tensor:
    return residual.square().mean((1, 2))
