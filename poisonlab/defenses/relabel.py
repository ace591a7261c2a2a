"""Soft relabeling: flagged images stay, their labels do not."""

import torch

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import named
from poisonlab.defenses.shared.ewc import HOLDS_SUSPECTS, flag, influence
from poisonlab.defenses.shared.suspects import (
    RELABELED,
    SuspectsConfig,
    flagged_images,
    soft_labels,
    tuned,
    without,
)
from poisonlab.models.base import Classifier, logits
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.types import Findings, ImageSet, joined


@defense("relabel")
class Relabel(Defense):
    """theta_R = fine-tuning of the given weights on (D minus C) and S; then again, on these and on C with the labels
    softmax f(x; theta_R)."""

    Config = SuspectsConfig
    card = Card(
        title="Soft relabeling",
        references=(
            Reference(
                authors="S. Kong, Y. Shen, L. Huang",
                title="Resolving Training Biases via Influence-based Data Relabeling",
                venue="ICLR",
                year=2022,
                role="a baseline, close to",
            ),
        ),
        summary="If a label is wrong, the image may still be useful: give every flagged image what a model trained "
        "without the suspects believes of it.",
        threat_model=HOLDS_SUSPECTS,
        deviations=(
            "The paper relabels by its own influence function; here EWC influence flags, a model relabels.",
        ),
    )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        scores = influence(model, clean, suspects, self.config, ctx)
        rows = flag(scores, self.config)
        trusted = joined(without(suspects, rows), clean)
        flagged = suspects[rows]
        reference = tuned(model, trusted, self.config, named(ctx, "reference"))
        if not len(rows):
            nothing = flagged_images(scores, rows, fate=rows, labels=rows, ctx=ctx)
            return Repair(reference, Findings(flags=nothing))
        answers = logits(reference, flagged.x).softmax(1)
        flags = flagged_images(scores, rows, torch.full_like(rows, RELABELED), answers.argmax(1), ctx)
        hook = soft_labels(trusted, answers)
        repaired = tuned(model, joined(trusted, flagged), self.config, ctx, hook)
        return Repair(repaired, Findings(flags=flags))
