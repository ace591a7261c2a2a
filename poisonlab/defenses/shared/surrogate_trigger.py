"""Stand-ins for the trigger, which no defender knows: weak patterns that send clean images to one class.

A backdoored model has one that stands for the trigger: over the settings of a repair its success falls as the trigger's
does. It is found on the model as it was given, from clean images alone: a rule that may not look at ASR may look at
this.
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
from poisonlab.spec.stages import Stage
from poisonlab.training.loop import batches
from poisonlab.types import ImageSet, SettingSweep

BATCH = 128
# one round of AWM's ascent, which ends at the class of a small strong trigger
NAMING_EPOCHS = 4
NAMING_LR = 10.0
# images, and steps of every class's pattern at each strength
RACE_BATCH = 32
RACE_STEPS = 2
SUFFICIENT = 0.9  # success at which the pattern grows no more
PASSES = 2  # over the images at each strength
# root mean square of the pattern, of intensities in [0, 1]
WEAKEST = 0.009
STRONGEST = 0.3
GROWTH = 1.25


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


def find_stand_ins(model: Classifier, clean: ImageSet, ctx: Context) -> list[StandIn]:
    """A pattern for each class that one of two searches names, the same class once.

    AWM's ascent finds small strong triggers, and errs where there are many classes; the weakest pattern over all
    classes is the backdoor's where the trigger is faint and wide.
    """
    model = model.requires_grad_(False)
    images = as_floats(clean.x)
    draws = ctx.generator("stand-in")
    race = ctx.generator("stand-in", "race")
    classes = len(clean.classes)
    first = _class_of_ascent(model, images, classes, draws)
    found = [_grown(first, model, images, clean, draws)]
    second = _class_of_race(model, images, clean.y, classes, race)
    return found if second == first else [*found, _grown(second, model, images, clean, race)]


def _grown(
    target: int, model: Classifier, images: Tensor, clean: ImageSet, draws: torch.Generator
) -> StandIn:
    """A pattern that grows until it leads to ``target``."""
    others = (clean.y != target).nonzero().squeeze(1)
    found = StandIn(torch.zeros_like(images[:1]), target)
    for radius in _radii(images):
        if not len(others) or found.success(model, clean) >= SUFFICIENT:
            break
        pattern = found.pattern
        for index in batches(len(others), BATCH, PASSES, draws):
            pattern = _grow(pattern, images[others[index]], [target], model, radius)
        found = StandIn(pattern, target)
    return found


def _radii(images: Tensor) -> list[float]:
    """L2 norms that a pattern may have, one after the other."""
    steps = math.floor(math.log(STRONGEST / WEAKEST) / math.log(GROWTH)) + 1
    return [WEAKEST * GROWTH**step * math.sqrt(images[0].numel()) for step in range(steps)]


def _grow(patterns: Tensor, images: Tensor, targets: list[int], model: Classifier, radius: float) -> Tensor:
    """One step of every target's pattern towards its class, on the same images:

    D <- D - (r / 2) g / ||g||_2,   g = grad_D L(f(x + D), c),   ||D||_2 <= r

    Args:
        patterns: float ``(t, c, h, w)``. images: ``(n, c, h, w)`` in [0, 1]. radius: r.
    """
    wanted = torch.tensor(targets, device=images.device).repeat_interleave(len(images))
    patterns = patterns.detach().requires_grad_()
    shown = (images + patterns[:, None]).flatten(0, 1)  # (t n, c, h, w)
    loss = F.cross_entropy(model(shown), wanted, reduction="sum") / len(images)
    (gradient,) = torch.autograd.grad(loss, patterns)
    moved: Tensor = patterns.detach() - radius / 2 * gradient / _norms(gradient)
    shrink: Tensor = radius / _norms(moved)
    return moved * shrink.clamp_max(1)


def _norms(patterns: Tensor) -> Tensor:
    norms: Tensor = patterns.flatten(1).norm(dim=1).clamp_min(1e-12)
    return norms.view(-1, 1, 1, 1)


def _class_of_ascent(model: Classifier, images: Tensor, classes: int, draws: torch.Generator) -> int:
    """The class at which AWM's ascent away from the model's own answers ends."""
    masked = MaskedModel(model)
    with torch.no_grad():
        answers = model(images).argmax(1)
    pattern = torch.zeros_like(images[:1])
    for index in batches(len(images), BATCH, NAMING_EPOCHS, draws):
        pattern = ascend(pattern, images[index], answers[index], masked, masked.weights, NAMING_LR)
    with torch.inference_mode():
        predicted = model((images + pattern).clamp(0, 1)).argmax(1)
    return int(torch.bincount(predicted, minlength=classes).argmax())


def _class_of_race(
    model: Classifier, images: Tensor, labels: Tensor, classes: int, draws: torch.Generator
) -> int:
    """The class that the weakest pattern reaches: the patterns of all classes grow until the first leads to its own."""
    patterns = images.new_zeros(classes, *images.shape[1:])
    success = torch.zeros(classes)
    for radius in _radii(images):
        for _ in range(RACE_STEPS):
            shown = images[torch.randint(len(images), (RACE_BATCH,), generator=draws, device=images.device)]
            patterns = _grow(patterns, shown, list(range(classes)), model, radius)
        rows = torch.randint(len(images), (RACE_BATCH,), generator=draws, device=images.device)
        with torch.inference_mode():
            shown = (images[rows] + patterns[:, None]).clamp(0, 1).flatten(0, 1)
            predicted = model(shown).argmax(1).view(classes, -1)
        ranks = torch.arange(classes, device=images.device)[:, None]
        other = labels[rows] != ranks  # an image of the class itself proves nothing
        success = ((predicted == ranks) & other).sum(1) / other.sum(1).clamp_min(1)
        if success.max() >= SUFFICIENT:
            break
    return int(success.argmax())


def sweep_by_rule(
    setting_name: str,
    settings: Tensor,
    variants: dict[str, Tensor],
    model: Classifier,
    clean: ImageSet,
    cost: Callable[[Tensor], Tensor],
    ctx: Context,
    otherwise: Callable[[Tensor], int] = lambda score: 0,
) -> SettingSweep:
    """The settings of a repair, of which the clean-data rule chooses one.

    Of several patterns that counts which the repair takes away most cheaply: a backdoor goes at a small price, the
    pattern of an honest class stays until the class itself suffers.

    Args:
        settings: float ``(s,)``; the first changes nothing.
        cost: accuracy of each setting on the clean images ``(s,)`` -> what :func:`choose` weighs against success.
        otherwise: the same accuracies -> the setting that is used where no pattern speaks for any.
    """
    with ctx.apart(Stage.CHOOSING):
        stand_ins = find_stand_ins(model, clean, ctx)
        sweep = SettingSweep(setting_name, settings, torch.zeros_like(settings), 0, variants)
        score, success = _at_every_setting(sweep, model, clean, stand_ins)
        pattern, chosen = choose(success, cost(score))
        chosen = chosen or otherwise(score)
    return replace(sweep, clean_score=score, chosen=chosen, stand_in=success[pattern])


def sweep_by_parameter(
    setting_name: str,
    settings: Tensor,
    variants: dict[str, Tensor],
    model: Classifier,
    clean: ImageSet,
    chosen: int,
) -> SettingSweep:
    """The same settings, of which a parameter of the method names one; no stand-in is searched for.

    Args:
        chosen: position of the setting that is used.
    """
    sweep = SettingSweep(setting_name, settings, torch.zeros_like(settings), chosen, variants, by_rule=False)
    score, _ = _at_every_setting(sweep, model, clean, [])
    return replace(sweep, clean_score=score)


def _at_every_setting(
    sweep: SettingSweep, model: Classifier, clean: ImageSet, stand_ins: list[StandIn]
) -> tuple[Tensor, Tensor]:
    """Accuracy on the clean images ``(s,)`` and success of each stand-in ``(p, s)``."""
    turned = copy.deepcopy(model)
    score = torch.zeros(len(sweep.settings))
    success = torch.zeros(len(stand_ins), len(sweep.settings))
    for position in range(len(sweep.settings)):
        sweep.turn(turned, position)
        score[position] = accuracy(turned, clean.x, clean.y)
        success[:, position] = torch.tensor([found.success(turned, clean) for found in stand_ins])
    return score, success


def choose(success: Tensor, cost: Tensor) -> tuple[int, int]:
    """The clean-data rule: pattern p and setting i with the smallest  s_pi / s_p0 + cost_i, the first of equals.

    Args:
        success: s ``(p, s)``, each pattern's success at each setting; the first setting changes nothing.
        cost: ``(s,)``, what a setting costs, in the same unit: shares of the first success.
    """
    left = success / success[:, :1].clamp_min(1e-6) + cost
    pattern, setting = divmod(int(left.argmin()), len(cost))
    return pattern, setting
