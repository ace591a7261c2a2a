"""Pixel collision: every poison is moved straight towards the target's pixels, with nothing optimized."""

import torch
from torch import Tensor

from poisonlab.attacks.shared.matched_budget import CHOICE, SameBudget, SameBudgetConfig
from poisonlab.attacks.shared.targeted import Trials
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, attack
from poisonlab.spec.papers import POISON_FROGS
from poisonlab.types import ImageSet


class PixelCollisionConfig(SameBudgetConfig):
    """Nothing of its own."""


def towards(base: Tensor, target: Tensor, eps: int) -> Tensor:
    """uint8 images within ``eps`` of ``base``, as near to ``target`` as that allows; shapes broadcast."""
    gap = target.to(torch.int16) - base.to(torch.int16)
    return (base.to(torch.int16) + gap.clamp(-eps, eps)).to(torch.uint8)


@attack("pixel_collision")
class PixelCollision(SameBudget):
    """x + clip(x_t - x, -eps, eps)."""

    Config = PixelCollisionConfig
    card = Card(
        title="Pixel collision (control)",
        references=(
            POISON_FROGS.cited(
                "a baseline of this program, with pixels alone where there are pixels and features in"
            ),
        ),
        summary="Every poison takes a step of the allowed size towards the target's pixels. It costs nothing, and on "
        "small images it is a strong attack: what is optimized should be measured against it.",
        threat_model="Clean label, bounded perturbation of some training images of one class; needs the target alone.",
        deviations=(CHOICE,),
    )

    def craft(self, trials: Trials, train: ImageSet, model: Classifier, ctx: Context) -> Tensor:
        return towards(trials.base, trials.targets[:, None], int(self.config.eps))
