"""SPECTRE: whiten a class's features by what most of its images agree on, and poisons stick out."""

import math

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.sample_scores import (
    MODIFIED_Z,
    OutlierRule,
    judged_class_by_class,
)
from poisonlab.defenses.spectral_signatures import MARGIN
from poisonlab.models.base import Classifier, extract
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Detection, ImageSet

REPOSITORY = "SPECTRE repository"
IMAGES_A_DIMENSION = 5  # of a class, at least, for its covariance to be estimated
ROUNDS = 10  # in which the robust estimate drops images
SMALLEST = 1e-6  # of an eigenvalue, relative to the largest


class SpectreConfig(OutlierRule):
    epsilon: float = param(
        0.1,
        "Upper bound on the poisoned share of a class; 1.5 times as much is flagged in every class",
        gt=0,
        le=0.6,
        source="as in spectral signatures; the repository is told the number of poisons",
    )
    alpha: float = param(
        4.0,
        "How far the score looks beyond the largest direction: 0 for all alike",
        ge=0,
        le=100,
        source=REPOSITORY,
    )
    dimensions: int = param(
        25,
        "Most principal components that are kept; 1, 4, 9, ... are tried",
        ge=1,
        le=100,
        source=f"{REPOSITORY}: 100",
    )


def principal_components(features: Tensor) -> Tensor:
    """The centered rows in the directions of their variance, the largest first; float64 ``(n, d)``."""
    centered = features.double() - features.double().mean(0)
    vectors = torch.linalg.eigh(centered.T @ centered).eigenvectors
    components: Tensor = centered @ vectors.flip(1)
    return components


def inverse_root(covariance: Tensor, least: float = 1e-306) -> Tensor:
    """S^(-1/2) of a symmetric matrix; directions of hardly any variance are cut off.

    Args:
        least: variance that each direction has at least, as where all rows that were kept are equal.
    """
    values, vectors = torch.linalg.eigh(covariance)
    floor = max(float(values[-1]) * SMALLEST, least)
    root: Tensor = (vectors * values.clamp_min(floor).rsqrt()) @ vectors.T
    return root


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(0)
    centered = rows - mean
    return mean, centered.T @ centered / max(1, len(rows) - 1)


def robust_moments(rows: Tensor, most: int, least: float = 1e-306) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows of which up to ``most`` may be anything.

    In each of ten rounds the rows are whitened by what is left, and those are dropped whose product z^T U z is the most
    unusual, U being the unit matrix along which these products vary most: products of normal rows have the variance 2.

    Args:
        rows: float64 ``(n, k)``. most: how many rows may be dropped in all, half of them at most.
        least: see :func:`inverse_root`.
    """
    kept = rows
    most = min(most, len(rows) // 2)
    for number in range(ROUNDS):
        mean, covariance = _moments(kept)
        share = most * (number + 1) // ROUNDS - most * number // ROUNDS
        if share == 0:
            continue
        z = (kept - mean) @ inverse_root(covariance, least)
        products = (z[:, :, None] * z[:, None, :]).flatten(1)
        centered = products - products.mean(0)
        _, vectors = torch.linalg.eigh(centered.T @ centered)
        unusual = (centered @ vectors[:, -1]).abs()
        order = unusual.argsort(stable=True)
        kept = kept[order[: len(kept) - share]]
    return _moments(kept)


def que_scores(whitened: Tensor, alpha: float) -> Tensor:
    """tau_i = h_i^T Q h_i / tr Q,  Q = exp(alpha (S - I) / (||S||_2 - 1)),  S the covariance of the rows h.

    Where no direction varies more than 1 there is none to prefer: Q = I.
    """
    covariance = whitened.T @ whitened / max(1, len(whitened) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    excess = float(values[-1]) - 1
    weights = torch.ones_like(values)
    if excess > SMALLEST:
        weights = (alpha * (values - values[-1]) / excess).exp()  # the largest is 1: a factor of Q cancels
    scores: Tensor = ((whitened @ vectors).square() * weights).sum(1) / weights.sum()
    return scores


def scores_of_class(features: Tensor, epsilon: float, alpha: float, dimensions: int) -> tuple[Tensor, float]:
    """QUE scores, with as many components as make their mean the largest once all are whitened by the kept ones.

    Args:
        features: float ``(n, d)``, one class.

    Returns:
        float64 ``(n,)``, and the mean of the largest 1.5 epsilon n.
    """
    components = principal_components(features)
    removed = min(math.ceil(MARGIN * epsilon * len(features)), len(features) - 1)
    least = max(float(components[:, 0].var()) * SMALLEST**2, 1e-306)
    best = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    largest = -math.inf
    most = min(dimensions, components.shape[1], len(features) // IMAGES_A_DIMENSION)
    for k in (root**2 for root in range(1, math.isqrt(max(most, 1)) + 1)):
        rows = components[:, :k]
        mean, covariance = robust_moments(rows, int(2 * epsilon * len(rows)), least)
        tau = que_scores((rows - mean) @ inverse_root(covariance, least), alpha)
        kept = tau.argsort(stable=True)[: len(tau) - removed]
        kept_mean, kept_covariance = _moments(rows[kept])
        again = (rows - kept_mean) @ inverse_root(kept_covariance, least)
        mean_score = float(que_scores(again, alpha).mean())
        if mean_score > largest:
            largest = mean_score
            best = tau
    return best, float(best.topk(removed).values.mean())


@defense("spectre")
class Spectre(Defense):
    """Hayase, Kong, Somani and Oh, ICML 2021, arXiv:2104.11315, for each class with the features R of its n images:

    1. the first k principal components; robust mean and covariance S of the clean part;
    2. whiten: h = S^(-1/2) (R - mean);
    3. tau_i = h_i^T Q h_i / tr Q,  Q = exp(alpha (cov(h) - I) / (||cov(h)||_2 - 1));
    4. drop the 1.5 epsilon n images with the largest tau, k chosen by the largest mean of tau after that;
    5. train anew on the rest.
    """

    Config = SpectreConfig
    needs_clean_images = False
    filters = True
    card = Card(
        title="SPECTRE",
        references=(
            Reference(
                authors="J. Hayase, W. Kong, R. Somani, S. Oh",
                title="SPECTRE: Defending Against Backdoor Attacks Using Robust Statistics",
                venue="ICML",
                year=2021,
                arxiv="2104.11315",
            ),
        ),
        summary="Poisons may differ from their class in a direction in which it hardly varies. So measure how far "
        "images lie out relative to how much the ordinary ones vary, and estimate that without trusting any of them.",
        threat_model="Defender holds the model and the training set, which may be poisoned, and knows a bound on the "
        "poisoned share of a class; no clean images.",
        deviations=(
            "Every class is judged, with the same bound; the authors' program is told the target class and the number "
            "of poisons.",
            "At most 25 principal components, 100 in the repository; a class with fewer than five images for each "
            "keeps fewer.",
            "The robust covariance drops images in ten rounds of equal size, never more than half of a class; the "
            "repository stops as soon as nothing is unusual.",
            "The paper gives no verdict on a model. Here a class is named if the mean of its largest scores stands "
            f"out: {MODIFIED_Z} robust deviations above the median class.",
            "It always flags the same share of every class, in a clean training set, too.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        features = extract(model, suspects.x)

        def score(rows: Tensor) -> tuple[Tensor, float]:
            return scores_of_class(features[rows], cfg.epsilon, cfg.alpha, cfg.dimensions)

        share = MARGIN * cfg.epsilon
        return judged_class_by_class(suspects, score, share, cfg.anomaly, "mean of the largest scores", ctx)
