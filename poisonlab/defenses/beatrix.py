"""Beatrix: how channels go together within an image, by Gram matrices, leaves the usual range under a trigger."""

import math
from collections.abc import Iterator

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


def gram_entries(features: Tensor, powers: int) -> Tensor:
    """G^p = ((F^p)(F^p)^T)^(1/p), the upper triangle of each, p = 1, 2, ...; roots keep signs.

    Args:
        features: float ``(n, c, h, w)``, F an image's ``(c, h w)``.

    Returns:
        ``(n, powers, c (c + 1) / 2)``.
    """
    flat = features.flatten(2).float()
    largest = flat.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    unit = flat / largest  # high powers stay in range; put back below
    row, column = torch.triu_indices(flat.shape[1], flat.shape[1], device=flat.device)
    entries = []
    for p in range(1, powers + 1):
        raised = unit.pow(p)
        gram = (raised @ raised.transpose(1, 2))[:, row, column]
        root = gram.sign() * gram.abs().pow(1 / p)
        entries.append(root * largest[:, :, 0].square())
    return torch.stack(entries, 1)


def usual_range(entries: Tensor, deviations: float) -> tuple[Tensor, Tensor]:
    """Median -+ ``deviations`` MAD of each entry over trusted images ``(n, powers, entries)``."""
    median = entries.quantile(0.5, 0)
    spread = (entries - median).abs().quantile(0.5, 0)
    return median - deviations * spread, median + deviations * spread


def deviation(entries: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sum of ReLU(low - g) / |low| + ReLU(g - high) / |high| over all entries, divided by how many; float ``(n,)``."""
    below = (low - entries).clamp_min(0) / _size(low)
    above = (entries - high).clamp_min(0) / _size(high)
    return (below + above).flatten(1).mean(1)


def _size(limit: Tensor) -> Tensor:
    """|limit|, and what is next to nothing beside the largest of its power as that share of it."""
    size = limit.abs()
    return torch.maximum(size, TINY * size.amax(1, keepdim=True).clamp_min(TINY))


def two_samples(one: Tensor, other: Tensor) -> float:
    """m n / (m + n) times the squared distance of two samples' means in a kernel's space (MMD).

    The kernel is a sum of two Gaussians whose squared widths are half and twice the median squared distance.

    Args:
        one, other: float ``(m, d)`` and ``(n, d)``.
    """
    both = torch.cat([one, other]).double()
    squared = torch.cdist(both, both).square()
    apart = squared[~torch.eye(len(both), dtype=torch.bool, device=both.device)]
    middle = float(apart.quantile(0.5))
    if middle <= 0:
        return 0.0
    kernel = (-squared / middle).exp() + (-squared / (4 * middle)).exp()
    m = len(one)
    distance = kernel[:m, :m].mean() + kernel[m:, m:].mean() - 2 * kernel[:m, m:].mean()
    return float(distance * m * len(other) / len(both))


class Ranges:
    """The usual range of each class and the deviation up to which an image passes for one of it.

    Attributes:
        layer: part of the network's body whose output is looked at.
        limits: class -> lowest and highest usual entry, ``(powers, entries)``, and threshold; only of classes with five
            trusted images or more.
    """

    def __init__(self, model: Classifier, clean: ImageSet, config: BeatrixConfig, ctx: Context) -> None:
        self.model = model
        self.config = config
        self.layer = stages(model, as_floats(clean.x[:1]), 2)[0]
        self.limits: dict[int, tuple[Tensor, Tensor, float]] = {}
        draws = ctx.generator("beatrix")
        for label in range(len(clean.classes)):
            rows = (clean.y == label).nonzero().squeeze(1)
            if len(rows) < FEWEST:
                continue
            order = torch.randperm(len(rows), generator=draws, device=rows.device)
            own = self.entries(clean.x[rows[order[: config.per_class]]])
            self.limits[label] = (*usual_range(own, config.deviations), self._threshold(own))
        few = [name for label, name in enumerate(clean.classes) if label not in self.limits]
        if few:
            ctx.log(
                f"fewer than {FEWEST} trusted images, so nothing is suspected: {', '.join(few)}", "warning"
            )

    def _threshold(self, own: Tensor) -> float:
        """The quantile of the deviations of trusted images, each from the range that four fifths of the others set."""
        fold = torch.arange(len(own), device=own.device) % FOLDS
        held_out = []
        for number in range(FOLDS):
            limits = usual_range(own[fold != number], self.config.deviations)
            held_out.append(deviation(own[fold == number], *limits))
        return float(torch.cat(held_out).quantile(self.config.quantile))

    def entries(self, x: Tensor) -> Tensor:
        """Gram entries of uint8 images, ``(n, powers, entries)``."""
        return torch.cat([gram_entries(features, self.config.powers) for features in self.features(x)])

    def features(self, x: Tensor) -> Iterator[Tensor]:
        """The layer's output ``(n, c, h, w)`` for uint8 images, in pieces."""
        with torch.inference_mode(), watching(self.model, [self.layer]) as outputs:
            for part in evaluation_batches(x):
                self.model(as_floats(part))
                yield outputs[0].clone()

    def excess(self, x: Tensor, label: int) -> Tensor:
        """Deviation of uint8 images from the range of a class, less the class's threshold; none if it has no range."""
        if label not in self.limits:
            highest = max((threshold for _, _, threshold in self.limits.values()), default=0.0)
            return torch.full((len(x),), -highest, device=x.device)  # as little suspicion as there is
        low, high, threshold = self.limits[label]
        parts = [
            deviation(gram_entries(features, self.config.powers), low, high) for features in self.features(x)
        ]
        return torch.cat(parts) - threshold

    def pooled(self, x: Tensor) -> Tensor:
        """Features of uint8 images averaged over places, ``(n, c)``."""
        return torch.cat([features.flatten(2).mean(2) for features in self.features(x)])


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
            "predicted class. A class with fewer than five is not judged.",
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

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        ranges = Ranges(model, clean, self.config, ctx)
        scores = torch.zeros(len(suspects), device=suspects.x.device)
        strength = torch.zeros(len(suspects.classes), device=suspects.x.device)
        judged = torch.zeros_like(strength, dtype=torch.bool)
        for label, rows in judged_classes(suspects, ctx):
            if label not in ranges.limits:
                continue
            images = suspects.x[rows]
            scores[rows] = ranges.excess(images, label)
            strength[label] = self._kinds(ranges, images, scores[rows] > 0)
            judged[label] = True
        threshold = outlier_threshold(among_judged(strength, judged), self.config.anomaly, LEAST_SPREAD)
        flagged = (scores > 0) & (strength > threshold)[suspects.y]
        return sample_verdict(
            "how much suspected and other images differ", strength, threshold, scores, flagged, ctx
        )

    @staticmethod
    def _kinds(ranges: Ranges, images: Tensor, suspected: Tensor) -> float:
        """The two-sample statistic between the images of a class; 0 where one kind has fewer than two."""
        sides = [images[side.nonzero().squeeze(1)[:MOST_PAIRS]] for side in (suspected, ~suspected)]
        if min(map(len, sides)) < 2:
            return 0.0
        return two_samples(*(ranges.pooled(side) for side in sides))

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor:
        """How far delta(x) lies above the threshold of the class that the network says."""
        ranges = Ranges(model, clean, self.config, ctx)
        said = predict(model, x)
        scores = torch.zeros(len(x), device=x.device)
        for label in said.unique().tolist():
            rows = (said == label).nonzero().squeeze(1)
            scores[rows] = ranges.excess(x[rows], label)
        return scores

    def screening_limit(self) -> float | None:
        """0: each class's own threshold is already taken off."""
        return 0.0
