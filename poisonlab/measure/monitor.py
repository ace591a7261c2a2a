"""What the experimenter sees of models before a run is over. Whoever trains or repairs them learns nothing."""

import copy
from dataclasses import replace
from typing import Self

import torch
from torch.nn import Module

from poisonlab.cache.stage_key import fingerprint
from poisonlab.context import Context
from poisonlab.models.base import Classifier, accuracy, predict
from poisonlab.records.artifacts import RepairTrace
from poisonlab.types import Backdoor, ImageSet, Targeted, Threat

LOOKED_AT = 500  # test images of each kind: a share seen on them is off by about 2 points


class Observer:
    """Clean accuracy and, of a backdoor, ASR on the first ``LOOKED_AT`` test images.

    A call measures a copy in eval mode and draws nothing at random: the repair goes on as if nobody had looked.
    """

    def __init__(self, test: ImageSet, threat: Threat) -> None:
        self.clean = test[:LOOKED_AT]
        self.backdoor = isinstance(threat, Backdoor)
        victims = self.clean
        if isinstance(threat, Backdoor):
            target = threat.target_class
            victims = (test if target is None else test[test.y != target])[:LOOKED_AT]
            self.triggered = threat.trigger(victims.x)
            self.wanted = threat.relabel(victims.y)
        else:
            self.triggered = victims.x[:0]
            self.wanted = victims.y[:0]
        self.victims = victims
        self._looks: list[tuple[str, int, float, float]] = []

    def key(self) -> str:
        """Hash of all that decides what is seen: a victim alone does not tell which trigger it is shown."""
        return fingerprint(self.clean.x, self.clean.y, self.triggered, self.wanted)

    def __call__(self, phase: str, step: int, model: Module) -> None:
        network = copy.deepcopy(model).eval()
        known = accuracy(network, self.clean.x, self.clean.y)
        asr = accuracy(network, self.triggered, self.wanted) if self.backdoor else float("nan")
        self._looks.append((phase, step, known, asr))

    def trace(self) -> RepairTrace | None:
        """All looks so far, or ``None`` of a repair that showed nothing."""
        if not self._looks:
            return None
        phase, step, known, asr = zip(*self._looks, strict=True)
        phases = list(dict.fromkeys(phase))
        return RepairTrace(
            phases,
            torch.tensor([phases.index(name) for name in phase]),
            torch.tensor(step),
            torch.tensor(known),
            torch.tensor(asr),
            len(self.clean),
        )


class TargetHits:
    """Shown the victim of one trial after the other, counts the targets that are given the attacker's class.

    Args:
        ctx: of the run, not of the stage, so that a cached stage does not depend on the targets; named like the stage.
    """

    def __init__(self, threat: Targeted, ctx: Context) -> None:
        self.threat = threat
        self.ctx = ctx
        self.hits = 0

    @classmethod
    def of(cls, stage: str, threat: Threat, ctx: Context) -> Self | None:
        """For the trials of a targeted attack; other threats have no targets to count."""
        return cls(threat, replace(ctx, stage_name=stage)) if isinstance(threat, Targeted) else None

    def __call__(self, phase: str, step: int, model: Classifier) -> None:
        """The victim of trial ``step``, from 1 on."""
        said = predict(model, self.threat.images[step - 1 : step])
        self.hits += int(said == self.threat.adversarial_labels[step - 1])
        self.ctx.metric("targets_hit", step, self.hits)
