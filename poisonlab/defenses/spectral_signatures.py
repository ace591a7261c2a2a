"""Spectral signatures: poisoned images stick out along the direction in which a class's features vary most."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.sample_scores import (
    MODIFIED_Z,
    OutlierRule,
    judged_class_by_class,
)
from poisonlab.models.base import Classifier, extract
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Detection, ImageSet

MARGIN = 1.5  # the paper's: images removed for each that may be poisoned


class SpectralConfig(OutlierRule):
    epsilon: float = param(
        0.1,
        "Upper bound on the poisoned share of a class; 1.5 times as much is flagged in every class",
        gt=0,
        le=0.6,
        source="MadryLab repository: 15 % (percentile 85) of a class of which 10 % may be poisoned",
    )


def spectral_scores(features: Tensor) -> tuple[Tensor, float]:
    """tau_i = <R_i - mean, v>^2 with v the top right singular vector of the centered rows; and the singular value.

    Args:
        features: float ``(n, d)``, one class.

    Returns:
        float64 ``(n,)``, and the largest singular value.
    """
    centered = features.double() - features.double().mean(0)
    values, vectors = torch.linalg.eigh(centered.T @ centered)  # (d, d): its eigenvalues are the squares
    return (centered @ vectors[:, -1]).square(), float(values[-1].clamp_min(0).sqrt())


@defense("spectral_signatures")
class SpectralSignatures(Defense):
    """Tran, Li and Madry, NeurIPS 2018, arXiv:1811.00636, Algorithm 1, for each class y with the features R of its n
    images:

    1. M = [R(x_i) - mean], v its top right singular vector, tau_i = ((R(x_i) - mean) . v)^2;
    2. drop the 1.5 epsilon n images with the largest tau;
    3. train anew on the rest.
    """

    Config = SpectralConfig
    needs_clean_images = False
    filters = True
    card = Card(
        title="Spectral signatures",
        references=(
            Reference(
                authors="B. Tran, J. Li, A. Madry",
                title="Spectral Signatures in Backdoor Attacks",
                venue="NeurIPS",
                year=2018,
                arxiv="1811.00636",
            ),
        ),
        summary="Inside the class that the attacker chose, images with the trigger look different to the network from "
        "all others. So they lie at one end of the direction in which the features of that class vary most. "
        "Drop the ends of every class, and train again.",
        threat_model="Defender holds the model and the training set, which may be poisoned, and knows a bound on the "
        "poisoned share of a class; no clean images.",
        deviations=(
            "Features are scored centered, as Algorithm 1 says; the authors' repository finds v on centered features "
            "but scores uncentered ones.",
            "It always flags the same share of every class, in a clean training set, too: the share of clean images "
            "flagged is never small.",
            "The paper gives no verdict on a model. Here a class is named if its features vary along v by far more "
            f"than those of the median class: largest singular value / sqrt(n), {MODIFIED_Z} robust deviations.",
            "It is made for few poisons: where half of a class is poisoned, both ends are alike.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        features = extract(model, suspects.x)

        def score(rows: Tensor) -> tuple[Tensor, float]:
            tau, singular_value = spectral_scores(features[rows])
            return tau, singular_value / len(rows) ** 0.5

        share = MARGIN * self.config.epsilon
        named = "largest singular value / sqrt(n)"
        return judged_class_by_class(suspects, score, share, self.config.anomaly, named, ctx)
