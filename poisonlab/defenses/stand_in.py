"""A stand-in for the trigger, which no defender knows: the weakest pattern that sends clean images to one class.

A backdoored model has such a pattern, and over the settings of a repair its success falls as the trigger's does. It
is found on the model as it was given, from clean images alone: a rule that may not look at ASR may look at this.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.awm import MaskedModel, ascend
from poisonlab.models.base import Classifier, accuracy, as_floats, predict
from poisonlab.training import batches
from poisonlab.types import Dial, ImageSet

BATCH = 128
NAMING_EPOCHS, NAMING_LR = 4, 10.0  # one round of AWM's ascent, which ends at the backdoor's class
SUFFICIENT = 0.9  # success at which the pattern grows no more
PASSES = 2  # over the images at each strength
WEAKEST, STRONGEST, GROWTH = 0.009, 0.3, 1.25  # root mean square of the pattern, of intensities in [0, 1]


@dataclass(frozen=True)
class StandIn:
    """Attributes:
    pattern: float ``(1, c, h, w)``, added to images in [0, 1].
    target: the class that it leads to.
    """

    pattern: Tensor
    target: int

    def success(self, model: Classifier, clean: ImageSet) -> float:
        """Share of the images of other classes that ``model`` gives the class under the pattern."""
        others = as_floats(clean.x[clean.y != self.target])
        return (predict(model, (others + self.pattern).clamp(0, 1)) == self.target).float().mean().item()


def find_stand_in(model: Classifier, clean: ImageSet, ctx: Context) -> StandIn:
    """Name the class by AWM's ascent, then let a pattern grow until it leads there.

    D <- D - (r / 2) g / ||g||_2,   g = grad_D L(f(x + D), c),   ||D||_2 <= r,   r growing
    """
    model = model.requires_grad_(False)
    images, draws = as_floats(clean.x), ctx.generator("stand-in")
    target = _named_class(model, images, len(clean.classes), draws)
    others = (clean.y != target).nonzero().squeeze(1)
    wanted = torch.full((len(images),), target, device=images.device)
    found = StandIn(torch.zeros_like(images[:1]), target)
    strength = WEAKEST
    while len(others) and strength <= STRONGEST and found.success(model, clean) < SUFFICIENT:
        radius, pattern = strength * math.sqrt(images[0].numel()), found.pattern
        for index in batches(len(others), BATCH, PASSES, draws):
            rows = others[index]
            pattern = pattern.detach().requires_grad_()
            loss = F.cross_entropy(model(images[rows] + pattern), wanted[rows])
            (gradient,) = torch.autograd.grad(loss, pattern)
            pattern = pattern.detach() - radius / 2 * gradient / gradient.norm().clamp_min(1e-12)
            pattern = pattern * (radius / pattern.norm().clamp_min(1e-12)).clamp_max(1)
        found = StandIn(pattern, target)
        strength *= GROWTH
    return found


def _named_class(model: Classifier, images: Tensor, classes: int, draws: torch.Generator) -> int:
    """The class at which the ascent away from the model's own answers ends."""
    masked = MaskedModel(model)
    with torch.no_grad():
        answers = model(images).argmax(1)
    pattern = torch.zeros_like(images[:1])
    for index in batches(len(images), BATCH, NAMING_EPOCHS, draws):
        pattern = ascend(pattern, images[index], answers[index], masked, masked.weights, NAMING_LR)
    with torch.inference_mode():
        said = model((images + pattern).clamp(0, 1)).argmax(1)
    return int(torch.bincount(said, minlength=classes).argmax())


def dial_by_rule(
    knob: str,
    settings: Tensor,
    variants: dict[str, Tensor],
    model: Classifier,
    clean: ImageSet,
    cost: Callable[[Tensor], Tensor],
    ctx: Context,
) -> Dial:
    """The settings of a repair, of which the clean-data rule chooses one.

    Args:
        settings: float ``(s,)``; the first changes nothing.
        cost: accuracy of each setting on the clean images ``(s,)`` -> what :func:`choose` weighs against success.
    """
    stand_in = find_stand_in(model, clean, ctx)
    dial = Dial(knob, settings, torch.zeros_like(settings), 0, variants)
    turned = copy.deepcopy(model)
    score, success = torch.zeros(len(settings)), torch.zeros(len(settings))
    for position in range(len(settings)):
        dial.turn(turned, position)
        score[position] = accuracy(turned, clean.x, clean.y)
        success[position] = stand_in.success(turned, clean)
    return replace(dial, clean_score=score, chosen=choose(success, cost(score)), stand_in=success)


def choose(success: Tensor, cost: Tensor) -> int:
    """The clean-data rule: the first setting with the smallest  s_i / s_0 + cost_i.

    Args:
        success: s ``(s,)``, the pattern's success at each setting; the first changes nothing.
        cost: ``(s,)``, what a setting costs, in the same unit: shares of the first success.
    """
    return int((success / success[0].clamp_min(1e-6) + cost).argmin())
