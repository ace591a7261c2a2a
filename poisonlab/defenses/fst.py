"""FST: fine-tuning from a new last layer that is kept away from the old one."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, FTConfig, fine_tune
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet

REPOSITORY = "FST repository, command for CIFAR-10"


class FSTConfig(FTConfig):
    epochs: int = param(
        10, "Passes over the clean images", quick=20, full=20, ge=1, le=1000, source=REPOSITORY
    )
    batch_size: int = param(
        128,
        "Images in a step",
        quick={"*": 32, "digits": 16},
        ge=2,
        le=4096,
        unit="images",
        source=REPOSITORY,
    )
    lr: float = param(
        0.01,
        "Learning rate at the start, falling as a cosine",
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    weight_decay: float = param(0.0, "L2 weight decay on all parameters", ge=0, le=0.1, source=REPOSITORY)
    alpha: float = param(
        0.1,
        "Weight of the product of the new and the old last layer",
        quick=0.02,
        ge=0,
        le=10,
        source=f"{REPOSITORY}; its code alone takes 0.2, and small or none with many classes",
    )


def drawn_anew(head: nn.Linear, generator: torch.Generator) -> None:
    """Weight and bias from U(-1 / sqrt(d), 1 / sqrt(d)), d features; in place."""
    bound = head.in_features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)


class FeatureShift(TrainingHook):
    """The product with the old weight in the loss, and the old norm after every step.

    Args:
        old: w_0, the last layer's weight before it was drawn anew, ``(classes, d)``.
    """

    def __init__(self, head: nn.Linear, old: Tensor, alpha: float) -> None:
        self.head = head
        self.old = old
        self.norm = old.norm()
        self.alpha = alpha

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        agreement = (self.head.weight * self.old).sum()
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing) + self.alpha * agreement

    def stepped(self, forward: object) -> None:
        """Project on ``||w||_F = ||w_0||_F``; the bias is left as it is."""
        with torch.no_grad():
            self.head.weight.mul_(self.norm / self.head.weight.norm())


@defense("fst")
class FST(Defense):
    """Min, Qin, Shen and Cheng, NeurIPS 2023, arXiv:2310.01875:

    min over theta, w of  L(f(x; theta, w), y) + alpha <w, w_0>   subject to  ||w||_F = ||w_0||_F,

    w the weight of the last layer, drawn anew at the start, w_0 what it was, theta all other parameters. The features
    have to shift, so that what joined the trigger to a class joins nothing any more.
    """

    Config = FSTConfig
    card = Card(
        title="Feature shift tuning",
        references=(
            Reference(
                authors="R. Min, Z. Qin, L. Shen, M. Cheng",
                title="Towards Stable Backdoor Purification through Feature Shift Tuning",
                venue="NeurIPS",
                year=2023,
                arxiv="2310.01875",
            ),
        ),
        summary="Forget the last layer, start it at random and push it away from what it was while everything is "
        "fine-tuned. Features of clean images follow, the shortcut from the trigger to its class does not.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "Nesterov momentum, and a learning rate that falls in every step: those of the common training loop. The "
            "repository's falls once an epoch.",
            "The preset quick has a few hundred clean images in place of 1,000: more passes, in smaller batches, "
            "and a smaller weight. What a new last layer costs is seen with a weight of 0: 7 points of accuracy.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        tuned = copy.deepcopy(model)
        old = tuned.head.weight.detach().clone()
        drawn_anew(tuned.head, ctx.generator("fst", "head"))
        fine_tune(tuned, clean, self.config, ctx, FeatureShift(tuned.head, old, self.config.alpha))
        return Repair(tuned)
