"""How sure a measured rate or mean is: intervals and a test. No torch here: the store and the pages use them.

Quantiles are those of ``scipy.special``. ``scipy.stats`` has the same tests ready made, but takes a second to import,
and fails to while another thread imports torch.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special


def wilson(hits: Any, n: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of proportions, ``(groups,)`` each: honest for few trials; NaN where nothing was tried."""
    hits = np.asarray(hits, dtype=float)
    n = np.asarray(n, dtype=float)
    n = np.where(n > 0, n, np.nan)
    z = special.ndtri((1 + confidence) / 2)
    p = hits / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)


def student(
    mean: Any, spread: Any, n: Any, least: Any = 0.0, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval of means over seeds, ``(groups,)`` each, cut to [``least``, 1]; NaN below two seeds."""
    mean, spread, n = (np.asarray(v, dtype=float) for v in (mean, spread, n))
    known, back = np.unique(n, return_inverse=True)  # few different n: the quantile is the slow part
    quantile = np.array([special.stdtrit(k - 1, (1 + confidence) / 2) if k >= 2 else np.nan for k in known])[
        back
    ]
    half = quantile * spread / np.sqrt(np.maximum(n, 1))
    return np.clip(mean - half, least, 1), np.clip(mean + half, least, 1)


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of one proportion; NaN of no trial."""
    low, high = wilson(successes, n, confidence)
    return float(low), float(high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean over seeds; infinite for a single value, NaN of none."""
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    mean = sum(values) / n
    if n < 2:
        return -math.inf, math.inf
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * spread / math.sqrt(n)
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
    one_side = float(special.bdtr(min(lost, gained), lost + gained, 0.5))
    return min(1.0, 2 * one_side)
