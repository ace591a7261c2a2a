"""Which images stand out, by all detectors together, and how far the detectors agree."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from poisonlab.check.evidence import Evidence

SHARE = 0.1  # of the images: what counts as the top of a detector
NEEDED = 2  # detectors that have a flagged image in their top; more leave hardly any image, chosen on CIFAR-10, seed 10


@dataclass(frozen=True)
class Agreement:
    """How far two detectors agree.

    Attributes:
        correlation: of the ranks of all images, Spearman's.
        overlap: share of the one's top images that are in the other's top, too; ``share`` by chance.
    """

    first: str
    second: str
    correlation: float
    overlap: float


@dataclass(frozen=True)
class Ranking:
    """All images, as the detectors together see them.

    Attributes:
        order: int64 ``(n,)``, rows, the most suspicious first.
        combined: float64 ``(n,)`` in [0, 1], the mean over the detectors of an image's rank, 1 for the highest score.
        votes: int64 ``(n,)``, how many detectors have the image in their top share.
        needed: votes from which on an image counts as flagged.
        agreements: of each pair of detectors.
    """

    order: Tensor
    combined: Tensor
    votes: Tensor
    needed: int
    agreements: tuple[Agreement, ...]

    @property
    def flagged(self) -> Tensor:
        """bool ``(n,)``: what a filtered set leaves out."""
        return self.votes >= self.needed


def ranked(evidence: Sequence[Evidence], share: float = SHARE) -> Ranking:
    """Combine detectors, each with the same weight.

    Args:
        share: of the images, what counts as a detector's top.
    """
    places = {found.detector: normalized_ranks(found.scores) for found in evidence}
    tops = {found.detector: top(found.scores, share) for found in evidence}
    combined = torch.stack(list(places.values())).mean(0)
    votes = torch.stack(list(tops.values())).sum(0)
    needed = min(len(evidence), NEEDED)
    # by votes first, so that what is flagged stands at the top of the list
    order = (votes.double() + combined.clamp(0, 0.999)).argsort(descending=True, stable=True)
    agreements = tuple(
        Agreement(a, b, correlation(places[a], places[b]), overlap(tops[a], tops[b]))
        for a, b in combinations(places, 2)
    )
    return Ranking(order, combined, votes, needed, agreements)


def normalized_ranks(scores: Tensor) -> Tensor:
    """Ranks from 0 to 1 for the highest, float64 ``(n,)``; equal scores share the mean of their ranks."""
    values, inverse, counts = scores.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    middle = last.double() - (counts.double() + 1) / 2
    ranks: Tensor = middle[inverse] / max(len(scores) - 1, 1)
    return ranks


def top(scores: Tensor, share: float) -> Tensor:
    """The images with the highest scores, bool ``(n,)``; of equal ones the first."""
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    count = max(1, round(share * len(scores)))
    chosen[scores.argsort(descending=True, stable=True)[:count]] = True
    return chosen


def correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's, of two sets of ranks; 0 where one of them is constant."""
    found = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    return found if math.isfinite(found) else 0.0


def overlap(first: Tensor, second: Tensor) -> float:
    """Share of one top that lies in the other, of two of the same size."""
    return ((first & second).sum() / first.sum().clamp_min(1)).item()


def suspected_class(evidence: Sequence[Evidence]) -> tuple[int | None, int]:
    """The class that most detectors name, and how many do; ``None`` where no two agree and more than one is named."""
    named = Counter(found.target for found in evidence if found.target is not None)
    if not named:
        return None, 0
    (target, count), *others = named.most_common()
    tied = bool(others) and others[0][1] == count
    return (None, 0) if tied else (target, count)
