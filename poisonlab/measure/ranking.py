"""Ranks of methods over several tasks, and how sure they are. No torch here: the store and the pages use it.

A method's mean rank is its rank among all methods, averaged over tasks (for a defense: over attacks). How far chance
decides is told by a paired bootstrap: tasks are drawn anew, and for each its seeds, the same for all methods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Values = NDArray[np.float64]
RESAMPLES = 5_000
CELLS = 2_000_000  # numbers of a resample that are held together


@dataclass(frozen=True)
class Ranks:
    """What :func:`rank` found, for ``m`` methods.

    Attributes:
        mean: mean rank, 1 is best, float ``(m,)``.
        low, high: ends of its 95 % bootstrap interval.
        rank: int ``(m,)``; methods whose intervals overlap with one's own do not stand before it.
        friedman: p-value of the hypothesis that all methods are equal; ``None`` below three methods or two tasks.
        critical: Nemenyi's distance between two mean ranks at 5 %; ``None`` where ``friedman`` is.
    """

    mean: Values
    low: Values
    high: Values
    rank: NDArray[np.int64]
    friedman: float | None
    critical: float | None


def rank(values: Values, *, largest_first: bool = False, resamples: int = RESAMPLES) -> Ranks:
    """Rank methods by what they reach on each task, equal values sharing a rank.

    The resampling is seeded: the same values give the same intervals.

    Args:
        values: ``(m, tasks, seeds)``; NaN where a seed was not measured, but at least one number in every cell.
        largest_first: whether large values are good.

    Raises:
        ValueError: a cell without a number, or no method or task.
    """
    if not values.size or np.isnan(values).all(2).any():
        raise ValueError("a rank needs a number of every method on every task")
    signed = -values if largest_first else values
    each = _ranks(np.nanmean(signed, 2).T)  # (tasks, m)
    low, high = _interval(signed, resamples)
    before = high[None, :] < low[:, None]  # [i, j]: j stands before i for sure
    return Ranks(
        mean=each.mean(0),
        low=low,
        high=high,
        rank=1 + before.sum(1),
        friedman=_friedman(signed),
        critical=_critical_distance(len(values), values.shape[1]),
    )


def spearman(left: Sequence[float], right: Sequence[float]) -> tuple[float, float]:
    """Rank correlation of three pairs or more, none of the sides constant, and its two-sided p-value by Student's t."""
    one = _centered_ranks(left)
    other = _centered_ranks(right)
    rho = float(one @ other / np.sqrt((one @ one) * (other @ other)))
    if abs(rho) > 1 - 1e-12:
        return rho, 0.0
    free = len(left) - 2
    t = rho * math.sqrt(free / (1 - rho**2))
    return rho, 2 * float(special.stdtr(free, -abs(t)))


def _centered_ranks(side: Sequence[float]) -> Values:
    ranks = _ranks(np.asarray(side, dtype=float))
    centered: Values = ranks - ranks.mean()
    return centered


def _interval(values: Values, resamples: int) -> tuple[Values, Values]:
    """Both ends of each mean rank's interval; of one task and one seed nothing is known but that there are m ranks."""
    methods, tasks, _ = values.shape
    most_seeds = (~np.isnan(values)).any(0).sum(1).max()
    if tasks == 1 and most_seeds == 1:
        return np.ones(methods), np.full(methods, float(methods))
    low, high = np.quantile(_resampled(values, resamples), [0.025, 0.975], axis=0)
    return low, high


def _resampled(values: Values, resamples: int) -> Values:
    """Mean ranks on tasks and seeds drawn anew, ``(resamples, m)``."""
    methods, tasks, seeds = values.shape
    measured = ~np.isnan(values).all(0)  # (tasks, seeds): seeds that any method was measured on
    count = measured.sum(1)
    first = np.argsort(~measured, axis=1, kind="stable")  # those seeds first
    whole = np.nanmean(values, 2)  # (m, tasks)
    draws = np.random.default_rng(0)
    out = []
    part = max(1, CELLS // values.size)
    for start in range(0, resamples, part):
        size = min(part, resamples - start)
        task = draws.integers(tasks, size=(size, tasks))
        pick = (draws.random((size, tasks, seeds)) * count[task][..., None]).astype(int)
        seed = first[task[..., None], pick]
        used = np.arange(seeds) < count[task][..., None]  # as many draws as there are seeds
        found = values[:, task[..., None], seed]  # (m, size, tasks, seeds)
        known = used & ~np.isnan(found)
        number = known.sum(3)
        total = np.where(known, found, 0).sum(3)
        mean = np.where(number > 0, total / np.maximum(number, 1), whole[:, task])  # drawn none of its seeds
        out.append(_ranks(mean.transpose(1, 2, 0)).mean(1))
    return np.concatenate(out)


def _ranks(values: Values) -> Values:
    """Ranks from 1 on along the last axis, the smallest first; equal values get the mean of their places."""
    smaller = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    ranks: Values = smaller + (equal + 1) / 2
    return ranks


def _friedman(values: Values) -> float | None:
    """The p-value of Friedman's test with its correction for ties; NaN where all are equal on every task."""
    methods, tasks, _ = values.shape
    if not _comparable(methods, tasks):
        return None
    each = _ranks(np.nanmean(values, 2).T)  # (tasks, m)
    ties = sum(float((n**3 - n).sum()) for n in (np.unique(row, return_counts=True)[1] for row in each))
    untied = 1 - ties / (methods * (methods**2 - 1) * tasks)
    if untied == 0:
        return math.nan
    squares = float((each.sum(0) ** 2).sum())
    statistic = (12 * squares / (methods * tasks * (methods + 1)) - 3 * tasks * (methods + 1)) / untied
    return float(special.chdtrc(methods - 1, statistic))


def _critical_distance(methods: int, tasks: int) -> float | None:
    """Demsar 2006 (JMLR 7), section 3.2.2: q sqrt(m (m + 1) / (6 N)), q of the studentized range over root 2."""
    if not _comparable(methods, tasks):
        return None
    q = _studentized_range(methods) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def _studentized_range(groups: int, confidence: float = 0.95) -> float:
    """Quantile of the range of so many standard normal values (the studentized range, infinite degrees of freedom)."""
    least = np.linspace(-9, 9, 3601)  # the smallest of the values
    density = np.exp(-(least**2) / 2) / math.sqrt(2 * math.pi)

    def missing(width: float) -> float:
        others = (special.ndtr(least + width) - special.ndtr(least)) ** (groups - 1)
        return float(groups * np.trapezoid(density * others, least)) - confidence

    return float(optimize.brentq(missing, 0, 20))


def _comparable(methods: int, tasks: int) -> bool:
    return methods >= 3 and tasks >= 2
