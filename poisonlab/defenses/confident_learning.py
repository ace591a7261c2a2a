"""Confident learning: count how often a network that never saw an image is sure of another label than it bears."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.detector_training import OwnTrainingConfig, train_anew
from poisonlab.defenses.shared.sample_scores import (
    FEWEST,
    OutlierRule,
    flagged_shares,
    outlier_threshold,
    sample_verdict,
)
from poisonlab.models.base import Classifier, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Detection, ImageSet

LEAST_SPREAD = 0.02  # of the shares of flagged images


class ConfidentConfig(OwnTrainingConfig, OutlierRule):
    folds: int = param(
        5,
        "Networks, each trained without the images it judges",
        quick=3,
        ge=2,
        le=50,
        source="cleanlab's default",
    )


def balanced_folds(y: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """A fold for each image, int64 ``(n,)``: within each class they differ in size by one at most."""
    fold = torch.empty_like(y)
    for label in y.unique():
        rows = (y == label).nonzero().squeeze(1)
        order = torch.randperm(len(rows), generator=generator, device=y.device)
        # rare classes start at different folds: none of these may remain empty
        fold[rows[order]] = (torch.arange(len(rows), device=y.device) + label) % folds
    return fold


def confident_joint(probabilities: Tensor, y: Tensor) -> Tensor:
    """C[i, j]: images labeled i that are confidently j, calibrated to the counts of the labels; ``(k, k)``.

    t_j = mean p_j of the images labeled j; an image is confidently j = argmax p among the classes with p_j >= t_j.
    """
    classes = probabilities.shape[1]
    counts = torch.bincount(y, minlength=classes)
    own = probabilities.gather(1, y[:, None])[:, 0]
    thresholds = torch.zeros(classes, dtype=own.dtype, device=own.device).index_add_(0, y, own) / counts
    thresholds[counts == 0] = torch.inf  # nobody can be sure of a label that does not occur
    above = probabilities >= thresholds - 1e-6
    guess = probabilities.masked_fill(~above, -1).argmax(1)
    pairs = (y * classes + guess)[above.any(1)]
    joint = torch.bincount(pairs, minlength=classes**2).view(classes, classes).double()
    joint.diagonal().clamp_(min=1)
    return joint / joint.sum(1, keepdim=True) * counts[:, None]


def label_issues(probabilities: Tensor, y: Tensor) -> Tensor:
    """Pruning by noise rate, bool ``(n,)``: for all i, j the C[i, j] images labeled i with the largest p_j - p_i.

    One image of a class stays at least, and so does an image whose label is the most probable one.

    Args:
        probabilities: out of sample, float ``(n, classes)``. y: given labels ``(n,)``.
    """
    joint = confident_joint(probabilities, y)
    found = torch.zeros_like(y, dtype=torch.bool)
    for label in y.unique().tolist():
        rows = (y == label).nonzero().squeeze(1)
        for other in range(len(joint)):
            count = min(round(joint[label, other].item()), len(rows) - 1)
            if other != label and count:
                margin = probabilities[rows, other] - probabilities[rows, label]
                found[rows[margin.topk(count).indices]] = True
    return found & (probabilities.argmax(1) != y)


@defense("confident_learning")
class ConfidentLearning(Defense):
    """Northcutt, Jiang and Chuang, JAIR 2021, arXiv:1911.00068:

    1. p(x): probabilities from networks that were not trained on x, by cross-validation;
    2. t_j = mean p_j of the images labeled j;  C[i, j] = images labeled i with p_j >= t_j, the largest such p;
    3. prune by noise rate: for each i != j the C[i, j] images labeled i with the largest p_j - p_i;
    4. train anew on the rest.
    """

    Config = ConfidentConfig
    needs_clean_images = False
    filters = True
    card = Card(
        title="Confident learning",
        references=(
            Reference(
                authors="C. G. Northcutt, L. Jiang, I. L. Chuang",
                title="Confident Learning: Estimating Uncertainty in Dataset Labels",
                year=2021,
                arxiv="1911.00068",
                journal="JAIR",
                volume=70,
            ),
        ),
        summary="Hide part of the images, learn from the rest, and look at the hidden ones: where the network is surer "
        "of another label than it usually is of that one, the given label may be wrong. Drop these, and train again.",
        threat_model="Defender holds the training set, which may be poisoned, and trains several networks of their own "
        "on it; no clean images.",
        deviations=(
            "Of the model under suspicion only the architecture is used.",
            "The rule is cleanlab's default, prune_by_noise_rate, written anew: the package needs pandas, and keeps "
            "what one call works on in module globals, which several runs at a time would share.",
            "An image's score is 1 - p of its label (self-confidence).",
            "The paper names no class. Here one is named whose share of flagged images stands out.",
            "It looks for wrong labels. The networks learn a trigger from the poisoned images of the other parts and "
            "then agree with the attacker's label; clean-label poisons have the right one: little to find in both.",
            "The preset quick has 3 networks.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        y = suspects.y
        fold = balanced_folds(y, cfg.folds, ctx.generator("folds"))
        probabilities = torch.zeros(len(y), len(suspects.classes), dtype=torch.float64, device=y.device)
        for part in range(cfg.folds):
            judge = train_anew(model, suspects[fold != part], cfg, ctx, part=part, parts=cfg.folds)
            held_out = (fold == part).nonzero().squeeze(1)
            if len(held_out):
                probabilities[held_out] = logits(judge, suspects.x[held_out]).double().softmax(1)
        flagged = label_issues(probabilities, y)
        counts = torch.bincount(y, minlength=len(suspects.classes))
        few = [name for name, n in zip(suspects.classes, counts.tolist(), strict=True) if n < FEWEST]
        if few:
            ctx.log(f"fewer than {FEWEST} images, too few to learn from: {', '.join(few)}", "warning")
        flagged &= counts[y] >= FEWEST
        shares = flagged_shares(flagged, suspects)
        threshold = outlier_threshold(shares, cfg.anomaly, LEAST_SPREAD)
        scores = (1 - probabilities.gather(1, y[:, None])[:, 0]).float()
        return sample_verdict("share of the class flagged", shares, threshold, scores, flagged, ctx)
