"""What the experimenter sees of models before a run is over. Whoever trains or repairs them learns nothing."""

import copy
from typing import Self, cast

import torch
from torch.nn import Module

from poisonlab.cache.stage_key import fingerprint
from poisonlab.models.base import Classifier, accuracy, predict
from poisonlab.records.artifacts import RepairTrace
from poisonlab.training.loop import LEARNING
from poisonlab.training.victims import TRIALS
from poisonlab.types import Backdoor, ImageSet, Targeted, Threat

EVALUATED = 500  # test images of each kind: a share seen on them is off by about 2 points


class Observer:
    """Clean accuracy and, of a backdoor, ASR on the first ``EVALUATED`` test images.

    A call measures a copy in eval mode and draws nothing at random: the repair goes on as it would without one.
    """

    def __init__(self, test: ImageSet, threat: Threat) -> None:
        self.clean = test[:EVALUATED]
        self.backdoor = isinstance(threat, Backdoor)
        victims = self.clean
        if isinstance(threat, Backdoor):
            victims = test[threat.attacked(test.y)][:EVALUATED]
            self.triggered = threat.trigger(victims.x)
            self.adversarial = threat.relabel(victims.y)
        else:
            self.triggered = victims.x[:0]
            self.adversarial = victims.y[:0]
        self.victims = victims
        self._evaluations: list[tuple[str, int, float, float]] = []

    def key(self) -> str:
        """Hash of all that decides what is seen: a victim alone does not tell which trigger it is shown."""
        return fingerprint(self.clean.x, self.clean.y, self.triggered, self.adversarial)

    def __call__(self, phase: str, step: int, model: Module) -> None:
        self._evaluations.append((phase, step, *self.at(model)))

    def at(self, model: Module) -> tuple[float, float]:
        """Clean accuracy and ASR of a model as it is now; NaN where there is no trigger."""
        network = cast(Classifier, copy.deepcopy(model).eval())
        clean = accuracy(network, self.clean.x, self.clean.y)
        return clean, accuracy(network, self.triggered, self.adversarial) if self.backdoor else float("nan")

    def trace(self) -> RepairTrace | None:
        """All evaluations so far, or ``None`` of a repair that had none."""
        if not self._evaluations:
            return None
        phase, step, known, asr = zip(*self._evaluations, strict=True)
        phases = list(dict.fromkeys(phase))
        return RepairTrace(
            phases,
            torch.tensor([phases.index(name) for name in phase]),
            torch.tensor(step),
            torch.tensor(known),
            torch.tensor(asr),
            len(self.clean),
        )


class BackdoorLearned:
    """Shown a victim after epochs of its training, tells how far it reads clean images and triggered ones by then."""

    def __init__(self, test: ImageSet, threat: Backdoor) -> None:
        self.look = Observer(test, threat)

    def key(self) -> str:
        """Hash of all that decides what is seen, the victim aside."""
        return self.look.key()

    def __call__(self, phase: str, step: int, model: Module) -> dict[str, float]:
        if phase != LEARNING:
            return {}
        accuracy, asr = self.look.at(model)
        return {"learned_accuracy": accuracy, "learned_asr": asr}


def while_trained(test: ImageSet, threat: Threat) -> "BackdoorLearned | TargetHits | None":
    """What looks at victims while they are trained; nothing of a threat that has no trigger and no targets."""
    return BackdoorLearned(test, threat) if isinstance(threat, Backdoor) else TargetHits.of(threat)


class TargetHits:
    """Shown the victim of one trial after the other, counts the targets that are given the attacker's class."""

    def __init__(self, threat: Targeted) -> None:
        self.threat = threat
        self.hits = 0

    @classmethod
    def of(cls, threat: Threat) -> Self | None:
        """For the trials of a targeted attack; other threats have no targets to count."""
        return cls(threat) if isinstance(threat, Targeted) else None

    def key(self) -> str:
        """Hash of all that decides what is seen, the victims aside."""
        return fingerprint(self.threat.images, self.threat.adversarial_labels)

    def __call__(self, phase: str, step: int, model: Module) -> dict[str, float]:
        """The victim of trial ``step``, from 1 on."""
        if phase != TRIALS:
            return {}
        predicted = predict(cast(Classifier, model), self.threat.images[step - 1 : step])
        self.hits += int(predicted == self.threat.adversarial_labels[step - 1])
        return {"targets_hit": self.hits}
