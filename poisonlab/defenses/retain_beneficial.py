"""Repair that looks twice at what it threw out: flagged images that were right come back."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import named
from poisonlab.defenses.shared.ewc import HOLDS_SUSPECTS, flag, influence
from poisonlab.defenses.shared.suspects import (
    KEPT_OUT,
    RELABELED,
    RETURNED,
    SuspectsConfig,
    flagged_images,
    soft_labels,
    tuned,
    without,
)
from poisonlab.models.base import Classifier, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.spec.papers import REPAIR
from poisonlab.types import Findings, ImageSet, joined

OURS = "ours, inspired by the abstract"


class RetainBeneficialConfig(SuspectsConfig):
    relabel_rest: bool = param(
        False,
        "Flagged images that do not come back are used with the reference model's soft labels",
        source=OURS,
    )


def agreeing(answers: Tensor, labels: Tensor) -> Tensor:
    """Which flagged images come back, bool ``(k,)``: B = {z in C : argmax f(x; theta_R) = y}.

    Args:
        answers: float ``(k, classes)``, what the reference model says of them.
        labels: int64 ``(k,)``, as given in the training set.
    """
    return answers.argmax(1) == labels


@defense("retain_beneficial")
class RetainBeneficial(Defense):
    """With D the training set, S the trusted images and theta^ the given weights:

    1. r_S(z): how much worse z fits after an anchored step towards S (see the module ``ewc``);
    2. C = the images with the highest scores;
    3. theta_R = fine-tuning of theta^ on (D minus C) and S, the reference;
    4. B = the images of C whose label the reference agrees with;
    5. fine-tuning of theta^ on (D minus C), S and B.
    """

    Config = RetainBeneficialConfig
    card = Card(
        title="Retaining beneficial information",
        references=(
            Reference(
                authors="L.-K. Huang, P. Zhao, J. Huang, S. Pan",
                title="Retaining Beneficial Information from Detrimental Data for Neural Network Repair",
                venue="NeurIPS",
                year=2023,
                role="inspired by",
            ),
            REPAIR.cited("scores after"),
        ),
        summary="Whoever hunts harmful training images also catches harmless ones, and a repair that forgets all of "
        "them hurts the model. So train once without the suspects, ask that model about them, and take back those "
        "whose label it confirms.",
        threat_model=HOLDS_SUSPECTS,
        deviations=(
            "Of the 2023 paper only the abstract could be read. From it: a trusted set serves to find harmful data, "
            "what was found is separated into beneficial and detrimental information, and the beneficial part is used. "
            "How each of this is done is ours.",
            "The score is that of Tanno et al. with the trusted images in place of the model's failures.",
            "Batch norm stays as it is while scores are computed. The preset quick averages the empirical Fisher "
            "information over 1,000 images.",
        ),
    )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        cfg = self.config
        scores = influence(model, clean, suspects, cfg, ctx)  # 1.
        rows = flag(scores, cfg)  # 2.
        trusted = joined(without(suspects, rows), clean)
        flagged = suspects[rows]
        reference = tuned(model, trusted, cfg, named(ctx, "reference"))  # 3.
        answers = (
            logits(reference, flagged.x).softmax(1) if len(rows) else scores.new_zeros(0, len(clean.classes))
        )
        back = agreeing(answers, flagged.y)  # 4.
        fate = torch.where(back, RETURNED, RELABELED if cfg.relabel_rest else KEPT_OUT)
        labels = torch.where(back, flagged.y, answers.argmax(1) if cfg.relabel_rest else -1)
        findings = Findings(flags=flagged_images(scores, rows, fate, labels, ctx))
        if not len(rows) or not bool((fate != KEPT_OUT).any()):
            return Repair(reference, findings)  # step 5 would be step 3 again
        grown = joined(trusted, flagged[back])
        if not cfg.relabel_rest:
            return Repair(tuned(model, grown, cfg, ctx), findings)  # 5.
        rest = flagged[~back]
        relabeled = tuned(model, joined(grown, rest), cfg, ctx, soft_labels(grown, answers[~back]))
        return Repair(relabeled, findings)
