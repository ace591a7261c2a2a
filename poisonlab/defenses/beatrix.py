"""Beatrix: how channels go together within an image, by Gram matrices, leaves the usual range under a trigger."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.feature_maps import has_maps, stages, watching
from poisonlab.defenses.shared.sample_scores import (
    FEWEST,
    among_judged,
    judged_classes,
    outlier_threshold,
    sample_verdict,
)
from poisonlab.models.base import Classifier, as_floats, evaluation_batches, predict
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import Detection, ImageSet

REPOSITORY = "authors' repository"
E_SQUARED = math.e**2
FOLDS = 5
TINY = 1e-6  # of the largest limit of a power; smaller ones count as this large
LEAST_SPREAD = 0.05  # of the classes' statistics
MOST_PAIRS = 200  # images of a side of the two-sample test
MOST_ENTRIES = 2**25  # of the Gram matrices that are made at once


class BeatrixConfig(Config):
    powers: int = param(
        8, "Powers of the features whose Gram matrices are taken, from 1 on", ge=1, le=16, source=REPOSITORY
    )
    deviations: float = param(
        10.0,
        "Limits of the usual range, in median absolute deviations from the median",
        ge=0,
        le=1000,
        source=REPOSITORY,
    )
    per_class: int = param(
        30,
        "Most trusted images of a class that set its range",
        ge=FEWEST,
        le=10_000,
        unit="images",
        source=REPOSITORY,
    )
    quantile: float = param(
        0.95,
        "Share of a class's trusted images that is not flagged, each judged by the others",
        ge=0,
        le=1,
        source=REPOSITORY,
    )
    anomaly: float = param(
        E_SQUARED,
        "A class is named if its score lies more than this many robust deviations above the median",
        ge=0,
        le=100,
        source="BackdoorBench: e squared",
    )


def gram_entries(features: Tensor, power: int) -> Tensor:
    """G^p = ((F^p)(F^p)^T)^(1/p), its upper triangle; roots keep signs.

    Args:
        features: float ``(n, c, h, w)``, F an image's ``(c, h w)``.

    Returns:
        ``(n, c (c + 1) / 2)``.
    """
    flat = features.flatten(2).float()
    largest = flat.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    raised = (flat / largest).pow(power)  # high powers stay in range; put back below
    row, column = torch.triu_indices(flat.shape[1], flat.shape[1], device=flat.device)
    gram = (raised @ raised.transpose(1, 2))[:, row, column]
    root = gram.sign() * gram.abs().pow(1 / power)
    entries: Tensor = root * largest[:, :, 0].square()
    return entries


def usual_range(entries: Tensor, deviations: float) -> tuple[Tensor, Tensor]:
    """Median -+ ``deviations`` MAD of each entry over trusted images ``(n, entries)``."""
    median = middle(entries)
    spread = middle((entries - median).abs())
    return median - deviations * spread, median + deviations * spread


def middle(values: Tensor) -> Tensor:
    """The median over the first dimension; between the two in the middle of an even number.

    What ``quantile(0.5, 0)`` gives, which on a CPU sorts one column after the other and takes 3 to 7 times as long.
    """
    if values.device.type == "cpu":
        ordered = torch.from_numpy(np.sort(values.numpy(), axis=0))
    else:
        ordered = values.sort(0).values
    count = len(values)
    return ordered[(count - 1) // 2].lerp(ordered[count // 2], 0.5)


def deviation(entries: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sum of ReLU(low - g) / |low| + ReLU(g - high) / |high| over the entries ``(n, entries)`` of a power, divided by
    how many; float ``(n,)``."""
    below = (low - entries).clamp_min(0) / _size(low)
    above = (entries - high).clamp_min(0) / _size(high)
    return (below + above).mean(1)


def _size(limit: Tensor) -> Tensor:
    """|limit|, and what is next to nothing beside the largest of the power as that share of it."""
    size = limit.abs()
    return torch.maximum(size, TINY * size.amax().clamp_min(TINY))


def two_samples(one: Tensor, other: Tensor) -> float:
    """m n / (m + n) times the squared distance of two samples' means in a kernel's space (MMD).

    The kernel is a sum of two Gaussians whose squared widths are half and twice the median squared distance.

    Args:
        one, other: float ``(m, d)`` and ``(n, d)``.
    """
    both = torch.cat([one, other]).double()
    squared = torch.cdist(both, both).square()
    apart = squared[~torch.eye(len(both), dtype=torch.bool, device=both.device)]
    median = float(apart.quantile(0.5))
    if median <= 0:
        return 0.0
    kernel = (-squared / median).exp() + (-squared / (4 * median)).exp()
    m = len(one)
    distance = kernel[:m, :m].mean() + kernel[m:, m:].mean() - 2 * kernel[:m, m:].mean()
    return float(distance * m * len(other) / len(both))


@dataclass(frozen=True)
class Usual:
    """The usual range of a class and the deviation up to which an image passes for one of it.

    Attributes:
        low, high: ends of the range of each entry, ``(powers, entries)``.
    """

    low: Tensor
    high: Tensor
    threshold: float

    @classmethod
    def of(cls, trusted: Tensor, config: BeatrixConfig) -> Self:
        """By features of trusted images ``(n, c, h, w)``, in an order of chance.

        The threshold is a quantile of their deviations, each from the range that four fifths of them set without it.
        """
        fold = torch.arange(len(trusted), device=trusted.device) % FOLDS
        held_out = trusted.new_zeros(len(trusted))
        ends = []
        for power in range(1, config.powers + 1):  # one after the other: of wide layers each is large
            entries = torch.cat([gram_entries(part, power) for part in _parts(trusted)])
            ends.append(torch.stack(usual_range(entries, config.deviations)))
            for number in range(FOLDS):
                own = fold == number
                held_out[own] += deviation(entries[own], *usual_range(entries[~own], config.deviations))
        low, high = torch.stack(ends, 1)
        return cls(low, high, float((held_out / config.powers).quantile(config.quantile)))

    def excess(self, features: Tensor) -> Tensor:
        """Deviation of images from the range, less the threshold: ``(n, c, h, w)`` -> ``(n,)``."""
        return torch.cat([self._deviation(part) for part in _parts(features)]) - self.threshold

    def _deviation(self, features: Tensor) -> Tensor:
        ends = zip(self.low, self.high, strict=True)
        each = [deviation(gram_entries(features, power), *limits) for power, limits in enumerate(ends, 1)]
        return torch.stack(each).mean(0)


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    """Features of as many images at a time as have Gram matrices of bounded size."""
    parts: tuple[Tensor, ...] = features.split(max(1, MOST_ENTRIES // features.shape[1] ** 2))
    return parts


class Ranges:
    """What is usual in each class, found out when it is asked for: of many classes and wide layers it is large.

    Attributes:
        layer: part of the network's body whose output is looked at.
        trusted: class -> rows of the trusted images that set its range; only of classes with five or more.
    """

    def __init__(self, model: Classifier, clean: ImageSet, config: BeatrixConfig, ctx: Context) -> None:
        self.model = model
        self.clean = clean
        self.config = config
        self.layer = stages(model, as_floats(clean.x[:1]), 2)[0]
        self.trusted: dict[int, Tensor] = {}
        draws = ctx.generator("beatrix")
        for label in range(len(clean.classes)):
            rows = (clean.y == label).nonzero().squeeze(1)
            if len(rows) < FEWEST:
                continue
            order = torch.randperm(len(rows), generator=draws, device=rows.device)
            self.trusted[label] = rows[order[: config.per_class]]
        few = [name for label, name in enumerate(clean.classes) if label not in self.trusted]
        if few:
            ctx.log(
                f"fewer than {FEWEST} trusted images, so nothing is suspected: {', '.join(few)}", "warning"
            )

    def of(self, label: int) -> Usual:
        """What is usual in one of the classes that have trusted images enough."""
        images = self.clean.x[self.trusted[label]]
        return Usual.of(torch.cat([self._features(part) for part in evaluation_batches(images)]), self.config)

    def judge(self, usual: Usual, x: Tensor) -> tuple[Tensor, Tensor]:
        """Excess of uint8 images over what is usual, ``(n,)``, and their features averaged over places, ``(n, c)``."""
        excess = []
        pooled = []
        for part in evaluation_batches(x):
            features = self._features(part)
            excess.append(usual.excess(features))
            pooled.append(features.flatten(2).mean(2))
        return torch.cat(excess), torch.cat(pooled)

    def _features(self, x: Tensor) -> Tensor:
        """The layer's output ``(n, c, h, w)`` for uint8 images that are passed at once."""
        with torch.no_grad(), watching(self.model, [self.layer]) as outputs:
            self.model(as_floats(x))
        return outputs[0]


def kinds(pooled: Tensor, suspected: Tensor) -> float:
    """The two-sample statistic between suspected and other images of a class; 0 where one kind has fewer than two.

    Args:
        pooled: float ``(n, c)``. suspected: bool ``(n,)``.
    """
    sides = [pooled[side.nonzero().squeeze(1)[:MOST_PAIRS]] for side in (suspected, ~suspected)]
    return two_samples(*sides) if min(map(len, sides)) > 1 else 0.0


@defense("beatrix")
class Beatrix(Defense):
    """Ma, Wang, Sun, Xue, Wen and Xiang, NDSS 2023, arXiv:2209.11715, with the features F of a late layer:

    1. G^p = ((F^p)(F^p)^T)^(1/p), p = 1 ... 8;
    2. for each class, median +- 10 MAD of every entry over trusted images;
    3. delta(x) = how far the entries of G(x) leave that range, relative to its ends;
    4. x is suspected if delta(x) is above the 95 % quantile of trusted images that were held out;
    5. a class is named if its suspected and its other images are two kinds: the kernel two-sample statistic of their
       pooled features lies more than e^2 robust deviations above the median class.
    """

    Config = BeatrixConfig
    filters = True
    card = Card(
        title="Beatrix",
        references=(
            Reference(
                authors="W. Ma, D. Wang, R. Sun, M. Xue, S. Wen, Y. Xiang",
                title="The Beatrix Resurrections: Robust Backdoor Detection via Gram Matrices",
                venue="NDSS",
                year=2023,
                arxiv="2209.11715",
            ),
        ),
        summary="Which features appear together says what kind of picture a network sees. A trigger brings features "
        "together that go with no picture of the class. Learn from trusted pictures what is usual, and count what is "
        "not.",
        threat_model="Defender holds the trained model and some clean images of each class; to judge training images, "
        "the training set as well.",
        deviations=(
            "The layer is the one before the last change of resolution, whatever the network; the repository's is the "
            "input of the last group of PreAct-ResNet18.",
            "Trusted images are those of the run, by their labels; the benchmark draws them from the test set, by "
            "predicted class. A class with fewer than five is not judged. Inputs are not screened if no class has five "
            "in half of them, from which screening learns.",
            "The benchmark's copy leaves out the inner power; here it is taken, as in the paper.",
            "An end of a range that is next to zero counts as a millionth of the largest end of its power, so that the "
            "quotient stays finite.",
            "Training images are flagged in the classes that are named, and in no others.",
            "The two-sample test looks at 200 images of either kind at most.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        if not has_maps(network, shape):
            raise ValueError(
                "beatrix looks at how features go together over a picture, and nothing in the victim is a map of the "
                "image; choose another victim, or larger images"
            )

    def check_trusted(self, clean: ImageSet) -> None:
        counts = torch.bincount(clean.y, minlength=len(clean.classes))
        if int(counts.max()) < FEWEST:
            raise ValueError(
                f"beatrix judges a class by {FEWEST} trusted images of it or more, and with clean_images={len(clean)} "
                f"no class of {len(counts)} has as many; set clean_images to {FEWEST * len(counts)} or more"
            )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        ranges = Ranges(model, clean, self.config, ctx)
        scores = torch.zeros(len(suspects), device=suspects.x.device)
        strength = torch.zeros(len(suspects.classes), device=suspects.x.device)
        judged = torch.zeros_like(strength, dtype=torch.bool)
        for label, rows in judged_classes(suspects, ctx):
            if label not in ranges.trusted:
                continue
            excess, pooled = ranges.judge(ranges.of(label), suspects.x[rows])
            scores[rows] = excess
            strength[label] = kinds(pooled, excess > 0)
            judged[label] = True
        threshold = outlier_threshold(among_judged(strength, judged), self.config.anomaly, LEAST_SPREAD)
        flagged = (scores > 0) & (strength > threshold)[suspects.y]
        return sample_verdict(
            "how much suspected and other images differ", strength, threshold, scores, flagged, ctx
        )

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor | None:
        """How far delta(x) lies above the threshold of the class that the network says."""
        ranges = Ranges(model, clean, self.config, ctx)
        if not ranges.trusted:
            return None
        said = predict(model, x)
        scores = torch.zeros(len(x), device=x.device)
        highest = 0.0
        for label in ctx.track(ranges.trusted, len(ranges.trusted)):
            usual = ranges.of(label)
            highest = max(highest, usual.threshold)
            rows = (said == label).nonzero().squeeze(1)
            if len(rows):
                scores[rows], _ = ranges.judge(usual, x[rows])
        unknown = ~torch.isin(said, torch.tensor(list(ranges.trusted), device=x.device))
        scores[unknown] = -highest  # as little suspicion as there is
        return scores

    def screening_limit(self) -> float | None:
        """0: each class's own threshold is already taken off."""
        return 0.0
