"""What each network answers to each class, without the trigger and with it, and which images a defense breaks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.lens.pictures import networks, spread
from poisonlab.measure.metrics import SWEPT, Triggered
from poisonlab.models.base import Classifier, predict
from poisonlab.pipeline.reopen import Opened
from poisonlab.types import Backdoor, ImageSet

SHOWN = 24  # broken images that are kept
WITHOUT = "without the trigger"
WITH = "with the trigger"


@dataclass(frozen=True)
class PerClass:
    """Answers by class.

    Attributes:
        classes: their names.
        tested: test images asked about.
        confusion: model -> int64 ``(classes, classes)``, true class by answer.
        triggered: model -> the same of the images that the trigger is put on; empty without a backdoor.
        adversarial: int64 ``(classes,)``, the attacker's label for each true class; -1 where it attacks none.
        broken: test images that the undefended network reads rightly and the defended one does not, uint8
            ``(k, c, h, w)``, evenly over all of them.
        broken_true, broken_answer: int64 ``(k,)``, their class and the defended network's answer.
        broken_count: how many there are. mended_count: how many are the other way round.
    """

    classes: tuple[str, ...]
    tested: int
    confusion: dict[str, Tensor]
    triggered: dict[str, Tensor]
    adversarial: Tensor
    broken: Tensor
    broken_true: Tensor
    broken_answer: Tensor
    broken_count: int
    mended_count: int

    def accuracy(self, model: str) -> Tensor:
        """Share of each class that is given its name, float64 ``(classes,)``; NaN of a class without images."""
        counts = self.confusion[model]
        return counts.diagonal().double() / counts.sum(1)

    def asr(self, model: str) -> Tensor:
        """Share of each class that is given the attacker's label under the trigger; NaN of a class it attacks not."""
        counts = self.triggered[model]
        hits = counts.gather(1, self.adversarial.clamp_min(0)[:, None]).squeeze(1)
        return hits.double() / counts.sum(1)


def per_class(opened: Opened, trial: int = 0) -> PerClass:
    """Answers of a trial's networks to up to 4,000 test images, evenly spread over all of them."""
    test = opened.attacked.splits.test
    some = test[spread(len(test), SWEPT).to(test.y.device)]
    models = networks(opened, trial)
    threat = opened.attacked.threat
    with opened.ctx.autocast():
        answers = {name: predict(model, some.x) for name, model in models.items()}
        under: dict[str, Tensor] = {}
        adversarial = torch.full((len(test.classes),), -1)
        if isinstance(threat, Backdoor):
            shown = Triggered.of(some, threat)
            under = _triggered(shown, models, len(test.classes))
            adversarial[shown.true.cpu()] = shown.adversarial.cpu()
    confusion = {name: counted(some.y, found, len(test.classes)) for name, found in answers.items()}
    return PerClass(test.classes, len(some), confusion, under, adversarial, *_broken(some, answers))


def counted(true: Tensor, answers: Tensor, classes: int) -> Tensor:
    """How often each class was given each answer, int64 ``(classes, classes)``."""
    pairs = (true * classes + answers).cpu()
    return pairs.bincount(minlength=classes * classes).view(classes, classes)


def _triggered(shown: Triggered, models: Mapping[str, Classifier], classes: int) -> dict[str, Tensor]:
    if not len(shown.x):
        return {}
    return {name: counted(shown.true, predict(model, shown.x), classes) for name, model in models.items()}


def _broken(test: ImageSet, answers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """The images that a defense breaks, their classes, its answers, how many, and how many it mends."""
    before = answers.get("undefended", answers["control"]) == test.y
    after_defense = answers.get("defended")
    if after_defense is None:
        return test.x[:0].cpu(), test.y[:0].cpu(), test.y[:0].cpu(), 0, 0
    after = after_defense == test.y
    lost = (before & ~after).nonzero().squeeze(1)
    kept = lost[spread(len(lost), SHOWN).to(lost.device)]
    mended = int((after & ~before).sum())
    return test.x[kept].cpu(), test.y[kept].cpu(), after_defense[kept].cpu(), len(lost), mended
