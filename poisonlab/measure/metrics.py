"""Measures of success, each a number in [0, 1] unless it says otherwise, and intervals for them."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

from poisonlab.types import Backdoor, ImageSet, Targeted

Predict = Callable[[Tensor], Tensor]  # uint8 (n, c, h, w) -> int64 (trials, n)


def clean_accuracy(predict: Predict, test: ImageSet) -> float:
    """Share of clean test images given their class, averaged over trials."""
    return (predict(test.x) == test.y).double().mean().item()


def backdoor_metrics(predict: Predict, test: ImageSet, threat: Backdoor) -> dict[str, float]:
    """``asr`` and ``robust_accuracy`` on triggered test images.

    All-to-one: images of the target class are left out of both. All-to-all: every image counts.
    ``asr`` is the share given the attacker's label, ``robust_accuracy`` the share given the true one.
    """
    victims = test if threat.target_class is None else test[test.y != threat.target_class]
    predicted = predict(threat.trigger(victims.x))
    return {
        "asr": (predicted == threat.relabel(victims.y)).double().mean().item(),
        "robust_accuracy": (predicted == victims.y).double().mean().item(),
    }


def targeted_predictions(predict: Predict, threat: Targeted) -> Tensor:
    """The prediction of trial t's model for trial t's target, int64 ``(trials,)``."""
    return predict(threat.images).diagonal()


def adversarial_probabilities(probabilities: Callable[[Tensor], Tensor], threat: Targeted) -> Tensor:
    """What trial t's model gives the adversarial label of trial t's target, float ``(trials,)``."""
    own = probabilities(threat.images).diagonal().T  # (trials, classes)
    return own.gather(1, threat.adversarial_labels[:, None]).squeeze(1)


def poison_success(predicted: Tensor, threat: Targeted) -> float:
    """Share of targets given the adversarial label."""
    return (predicted == threat.adversarial_labels).double().mean().item()


def accuracy_losses(measured: Mapping[str, float]) -> dict[str, float]:
    """How far each ``clean_accuracy`` lies below the control's, 0 for the control itself.

    In [-1, 1]: a repair that knows more than the control may gain.
    """
    best = measured["clean_accuracy_control"]
    return {
        f"accuracy_loss{s}": best - measured[f"clean_accuracy{s}"] for s in ("_control", "_undefended", "")
    }


def der(accuracy_before: float, asr_before: float, accuracy_after: float, asr_after: float) -> float:
    """Defense effectiveness rating (Zhu et al., FT-SAM, ICCV 2023): 0.5 means no effect, 1 is best."""
    asr_drop = max(0.0, asr_before - asr_after)
    accuracy_drop = max(0.0, accuracy_before - accuracy_after)
    return (asr_drop - accuracy_drop + 1) / 2


def oracle(accuracy: Sequence[float], asr: Sequence[float]) -> int:
    """Position of the lowest ASR among settings that keep 90 % of the first one's accuracy.

    The choice that BackdoorBench reports for pruning. It looks at the test set and at the trigger, so no
    defender can make it; shown beside the defender's own choice, never instead of it.
    """
    allowed = [i for i, value in enumerate(accuracy) if value >= 0.9 * accuracy[0]]
    return min(allowed, key=lambda i: asr[i])


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 images in dB, ``(n,)``; equal images give infinity."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error)


def auroc(negatives: Tensor, positives: Tensor) -> float:
    """Probability that a positive's score exceeds a negative's."""
    scores = torch.cat([negatives, positives]).cpu().numpy()
    return float(roc_auc_score([0] * len(negatives) + [1] * len(positives), scores))


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion: honest for few trials, never outside [0, 1]."""
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean over seeds; infinite for a single value."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return -math.inf, math.inf
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
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
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
