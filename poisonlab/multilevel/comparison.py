"""The result of a sweep: where the trilevel model is better than the bilevel one on the same splits, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from poisonlab.measure.intervals import mean_interval
from poisonlab.multilevel.spec import Model, Outcome

Verdict = Literal["above", "below", "always", "never", "diverged"]
GRID = np.linspace(0, 3, 301)  # of test noise, where the interval is evaluated


@dataclass(frozen=True)
class Cell:
    """Test error of a model at a noise: mean over seeds and its 95 % interval, NaN where a seed diverged.

    ``difference`` is the mean over seeds of trilevel minus bilevel on the same split, with its interval.
    """

    model: Model
    penalty: float | None
    noise: float
    n: int
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class Comparison:
    """A trilevel model beside the bilevel one.

    Attributes:
        verdict: where the mean error of trilevel is the lower one: ``above`` or ``below`` the crossing, or ``always``.
        crossing: the noise where the means are equal; NaN where they never are.
        sure: the part of 0 to 3 where the paired interval lies below zero; ``None`` where it does nowhere.
        unbounded, diverged, n: seeds whose attacker is held by its finite steps alone, that diverged, in all.
    """

    penalty: float
    verdict: Verdict
    crossing: float
    sure: tuple[float, float] | None
    unbounded: int
    diverged: int
    n: int

    def warning(self) -> str:
        """A warning where the attacker is unbounded; empty where the penalty bounds it."""
        if not self.unbounded:
            return ""
        ended = f"; {self.diverged} of {self.n} ended in numbers that are not finite" if self.diverged else ""
        return (
            f"The adversary is unbounded at penalty {self.penalty:g} in {self.unbounded} of {self.n} seeds{ended}: the "
            "penalty does not exceed d |theta|^2, so against these weights moving the data further always pays and "
            "only the finite number of steps holds it. Raise the penalty."
        )


def cells(outcomes: Sequence[Outcome], noises: Sequence[float]) -> list[Cell]:
    """A row for each model, penalty and noise."""
    groups = _groups(outcomes)
    base = groups[None]
    return [
        Cell(
            "bilevel" if penalty is None else "trilevel",
            penalty,
            noise,
            len(group),
            *_mean(group, noise),
            *_mean(group, noise, base if penalty is not None else None, paired=True),
        )
        for penalty, group in groups.items()
        for noise in noises
    ]


def comparisons(outcomes: Sequence[Outcome]) -> list[Comparison]:
    """One a penalty, against the bilevel outcomes on the same splits."""
    groups = _groups(outcomes)
    base = groups.pop(None)
    return [_compare(penalty, group, base) for penalty, group in groups.items() if penalty is not None]


def _compare(penalty: float, group: list[Outcome], base: list[Outcome]) -> Comparison:
    diverged = sum(o.mse(0) is None for o in group)
    counts = (sum(not o.bounded for o in group), diverged, len(group))
    if diverged or any(o.mse(0) is None for o in base):
        return Comparison(penalty, "diverged", math.nan, None, *counts)
    # the difference of the means is a parabola in the noise: offset + slope noise^2
    offset = _mean(group, 0.0, base, paired=True)[0]
    slope = _mean(group, 1.0, base, paired=True)[0] - offset
    verdict: Verdict = "always" if offset < 0 else "never"
    crossing = math.nan
    if offset * slope < 0:
        verdict = "above" if slope < 0 else "below"
        crossing = math.sqrt(-offset / slope)
    below = [float(noise) for noise in GRID if _mean(group, float(noise), base, paired=True)[2] < 0]
    sure = (below[0], below[-1]) if below else None
    return Comparison(penalty, verdict, crossing, sure, *counts)


def _groups(outcomes: Sequence[Outcome]) -> dict[float | None, list[Outcome]]:
    """Outcomes by penalty, bilevel first; each in the order of its seeds."""
    groups: dict[float | None, list[Outcome]] = {None: []}
    for outcome in sorted(outcomes, key=lambda o: (o.penalty or 0, o.seed)):
        groups.setdefault(outcome.penalty, []).append(outcome)
    return groups


def _mean(
    group: list[Outcome], noise: float, base: list[Outcome] | None = None, paired: bool = False
) -> tuple[float, float, float]:
    """Mean error over seeds, or of its difference to ``base``, and Student's interval."""
    values = [o.mse(noise) for o in group]
    others = [o.mse(noise) for o in base] if base else [0.0] * len(values)
    if None in values or None in others or (paired and base is None):
        return math.nan, math.nan, math.nan
    each = [a - b for a, b in zip(values, others, strict=True) if a is not None and b is not None]
    return sum(each) / len(each), *mean_interval(each)
