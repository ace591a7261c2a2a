"""How sure a measured rate or mean is: intervals and a test. No torch here: the store and the pages use them."""

import math
from collections.abc import Sequence

import numpy as np


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion: honest for few trials, never outside [0, 1]; NaN of no trial."""
    if n == 0:
        return math.nan, math.nan
    from scipy import stats  # noqa: PLC0415 - takes a second, and no start needs it

    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean over seeds; infinite for a single value, NaN of none."""
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    mean = sum(values) / n
    if n < 2:
        return -math.inf, math.inf
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    from scipy import stats  # noqa: PLC0415 - takes a second, and no start needs it

    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
    return mean - half, mean + half


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap of a mean over units that were not drawn, such as classes; NaN below three of them.

    The resampling is seeded: the same values give the same interval.
    """
    if len(values) < 3:
        return math.nan, math.nan
    sample = np.asarray(values, dtype=float)
    means = np.random.default_rng(0).choice(sample, (resamples, len(sample))).mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def sign_test(lost: int, gained: int) -> float:
    """Exact two-sided McNemar test: the p-value of pairs that changed one way or the other; 1 if none did."""
    from scipy import stats  # noqa: PLC0415 - takes a second, and no start needs it

    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
