"""Random noise of a poison's size: the control that shows the effect of the bound alone."""

import torch
from torch import Tensor

from poisonlab.attacks.shared.matched_budget import CHOICE, SameBudget, SameBudgetConfig
from poisonlab.attacks.shared.pixels import round_within
from poisonlab.attacks.shared.targeted import Trials
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, attack
from poisonlab.spec.papers import METAPOISON
from poisonlab.types import ImageSet


class RandomPerturbationConfig(SameBudgetConfig):
    """Nothing of its own."""


@attack("random_perturbation")
class RandomPerturbation(SameBudget):
    """U(-eps, eps) on every pixel: MetaPoison before its first step."""

    Config = RandomPerturbationConfig
    card = Card(
        title="Random perturbation (control)",
        references=(METAPOISON.cited("the random start of"),),
        summary="The images that MetaPoison would change get noise of the same size, drawn at random. Whatever happens "
        "to the targets then is chance: an attack must beat it.",
        threat_model="Clean label, bounded perturbation of some training images of one class; nothing is learned.",
        deviations=(CHOICE,),
    )

    def craft(self, trials: Trials, train: ImageSet, model: Classifier, ctx: Context) -> Tensor:
        draws = ctx.generator("metapoison", "noise")
        eps = self.config.eps / 255
        noise = 2 * torch.rand(trials.base.shape, generator=draws, device=trials.base.device) - 1
        return round_within(trials.base.float() / 255 + eps * noise, trials.base, self.config.eps)
