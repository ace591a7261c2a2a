"""What detectors of poisoned training images share: which classes can be judged, and when one of them is named."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.spec.config import Config, param
from poisonlab.types import Detection, ImageSet

FEWEST = 5  # images of a class, to be told apart from each other
CONSISTENCY = 1.4826  # MAD times this is the standard deviation of normal scores; 1 / 0.6745
MODIFIED_Z = 3.5  # outliers lie further: Iglewicz and Hoaglin, of 0.6745 (x - median) / MAD
LEAST_SHARE = 0.1  # of the median class's strength, that strengths spread at least
ANOMALY_INDEX = 2.0  # the same in Neural Cleanse


class OutlierRule(Config):
    anomaly: float = param(
        MODIFIED_Z,
        "A class is named if its score lies more than this many robust standard deviations above the median",
        ge=0,
        le=100,
        source="Iglewicz and Hoaglin 1993, limit of the modified z-score; the paper names no class",
    )


def judged_classes(suspects: ImageSet, ctx: Context) -> Iterator[tuple[int, Tensor]]:
    """Label and rows, int64 ``(k,)``, of each class with images enough; the log names the others."""
    counts = torch.bincount(suspects.y, minlength=len(suspects.classes)).tolist()
    few = [suspects.classes[label] for label, count in enumerate(counts) if count < FEWEST]
    if few:
        ctx.log(f"fewer than {FEWEST} images, so they are not judged: {', '.join(few)}", "warning")
    for label, count in ctx.track(enumerate(counts), len(counts)):
        if count >= FEWEST:
            yield label, (suspects.y == label).nonzero().squeeze(1)


def median_and_spread(scores: Tensor, least_spread: float) -> tuple[Tensor, Tensor]:
    """Median of ``(classes,)`` and 1.4826 MAD, which counts as at least ``least_spread``."""
    median = scores.quantile(0.5)
    spread = CONSISTENCY * (scores - median).abs().quantile(0.5)
    return median, spread.clamp_min(least_spread)


def outlier_threshold(scores: Tensor, anomaly: float, least_spread: float) -> float:
    """median + anomaly 1.4826 MAD: higher scores lie more than ``anomaly`` robust standard deviations above it."""
    median, spread = median_and_spread(scores, least_spread)
    return float(median + anomaly * spread)


def among_judged(strength: Tensor, judged: Tensor) -> Tensor:
    """Of ``(classes,)`` the classes that are judged, bool ``(classes,)``: an outlier lies apart from these. All if none
    is."""
    return strength[judged] if judged.any() else strength


def anomaly_index(norms: Tensor, least_spread: float = 0.0) -> Tensor:
    """How many robust standard deviations each norm lies *below* the median: (median - x) / (1.4826 MAD).

    Args:
        norms: ``(classes,)``; the result is shaped alike, positive for small norms.
    """
    median, spread = median_and_spread(norms, max(least_spread, 1e-6))
    return (median - norms) / spread


def judged_class_by_class(
    suspects: ImageSet,
    score: Callable[[Tensor], tuple[Tensor, float]],
    share: float,
    anomaly: float,
    named: str,
    ctx: Context,
) -> Detection:
    """The same share of every class is flagged, and the class is named whose strength is an outlier among those that
    are judged.

    Args:
        score: rows of one class, int64 ``(k,)`` -> how suspicious each is ``(k,)``, and the strength of the class.
        share: of the images of a class that are flagged.
        named: what the strength is, for axes.
    """
    scores = torch.zeros(len(suspects), device=suspects.x.device)
    flagged = torch.zeros_like(suspects.y, dtype=torch.bool)
    strength = torch.zeros(len(suspects.classes), device=suspects.x.device)
    judged = torch.zeros_like(strength, dtype=torch.bool)
    for label, rows in judged_classes(suspects, ctx):
        of_class, strength[label] = score(rows)
        judged[label] = True
        flagged[rows[of_class.topk(round(share * len(rows))).indices]] = True
        scores[rows] = of_class.float()
    compared = among_judged(strength, judged)
    threshold = outlier_threshold(compared, anomaly, LEAST_SHARE * float(compared.quantile(0.5)))
    return sample_verdict(named, strength, threshold, scores, flagged, ctx)


def flagged_shares(flagged: Tensor, suspects: ImageSet) -> Tensor:
    """Share of each class's images that is flagged, float ``(classes,)``; 0 of an empty class."""
    classes = len(suspects.classes)
    counts = torch.bincount(suspects.y, minlength=classes)
    return torch.bincount(suspects.y[flagged], minlength=classes) / counts.clamp_min(1)


def sample_verdict(
    score: str, class_scores: Tensor, threshold: float, sample_scores: Tensor, flagged: Tensor, ctx: Context
) -> Detection:
    """Names the class with the highest score above ``threshold``, or none."""
    backdoored = bool((class_scores > threshold).any())
    if not backdoored:
        ctx.log("no class stands out from the others: no verdict against the model")
    target = int(class_scores.argmax()) if backdoored else None
    return Detection(backdoored, target, score, class_scores, threshold, sample_scores, flagged)
