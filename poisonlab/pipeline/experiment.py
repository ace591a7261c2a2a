"""The protocol of an experiment, stage by stage:

    dataset -> poison -> [purify] -> train -> [detect] -> [repair] -> evaluate

Every run measures three models on the same images: a control trained without poison, the undefended
victim, and the defended one. Each stage is cached under the hash of what it depends on, so ten
defenses against one attack craft the poison and train the victim once. A defense that filters has
its victim trained anew without the images that detection flagged.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from poisonlab.attacks.base import Attack
from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.data.base import divide
from poisonlab.events import ArtifactReady, Event, StageFinished
from poisonlab.measure import detection, flags, metrics
from poisonlab.measure.galleries import (
    show_detection,
    show_drive,
    show_poison,
    show_recovered,
    show_suspicion,
)
from poisonlab.measure.monitor import Observer, TargetHits
from poisonlab.models.base import Classifier
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.evaluate import measure_models, measure_settings
from poisonlab.pipeline.poison import craft
from poisonlab.pipeline.purify import public_images, purify_sets, surviving_metrics
from poisonlab.records.artifacts import (
    FlaggedRows,
    IsolatedRows,
    NeuronScores,
    PurificationTrace,
    TriggerReconstruction,
)
from poisonlab.spec.config import ExperimentSpec
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims
from poisonlab.types import (
    Backdoor,
    Bundle,
    Corruption,
    ImageSet,
    Poison,
    SettingSweep,
    Splits,
    Threat,
    joined,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What a run measured.

    Attributes:
        metrics: flat name -> number; rates in [0, 1].
        timings: stage -> seconds, 0 for a cached one.
        cached: stages that came from the cache.
    """

    metrics: dict[str, float]
    timings: dict[str, float]
    cached: list[str]


def run_experiment(spec: ExperimentSpec, ctx: Context) -> Result:
    """Run one spec from the dataset to its metrics.

    Raises:
        Cancelled: ``ctx`` was asked to stop; whole stages stay in the cache.
        DataError, ValueError, Diverged, CacheError: with a message a person can act on.
    """
    timings: dict[str, float] = {}
    cached: list[str] = []

    def send(event: Event) -> None:
        if isinstance(event, StageFinished):
            timings[event.stage] = timings.get(event.stage, 0.0) + event.seconds
            if event.cached:
                cached.append(event.stage)
        ctx.send(event)

    precision = getattr(torch, spec.precision)
    listening = dataclasses.replace(ctx, send=send, seed=spec.seed, precision=precision)
    measured = _Experiment(spec, listening).run()
    return Result(measured, timings, cached)


class _Experiment:
    """One run: the parts that its stages share."""

    def __init__(self, spec: ExperimentSpec, ctx: Context) -> None:
        self.spec = spec
        self.ctx = dataclasses.replace(ctx, send=partial(self._hear, ctx.send))
        self.artifacts: list[Any] = []  # shown so far, by cached stages too
        self.attack: Attack = spec.attack.build()
        self.splits = self._load()
        self.trainer = Trainer(spec, self.splits, self.ctx)
        self.defender = Defender(spec, self.splits.reserve, self.ctx)

    def run(self) -> dict[str, float]:
        ctx, train = self.ctx, self.splits.train
        poison = craft(self.attack, self.spec, self.splits, self.trainer, ctx)
        hooked = self.attack.training_hook(poison, ctx) is not None
        if not hooked:
            show_poison(train, poison, ctx)
        control = self.trainer.train("control", [train], poison.trials)
        if hooked:  # the victim's training teaches the attacker the final trigger
            undefended = self._train_hooked(poison)
            poison = self.attack.finalize(poison, undefended.learned, train)
            show_poison(train, poison, ctx)
        threat, poisoned = self.attack.threat(poison, len(train.classes)), poison.sets(train)
        if not hooked:
            target_hits = TargetHits.of("victim", threat, ctx)
            undefended = self.trainer.train("victim", poisoned, poison.trials, observer=target_hits)
        self.defender.prepare(public_images(self.splits.public, self.spec, threat, ctx))
        spotted = self._spot(poison, poisoned[0], threat, control, undefended)
        defended, sweep = self._defend(poison, poisoned, undefended, threat)
        measured = self._evaluate(threat, control, undefended, defended) | spotted
        if isinstance(threat, Corruption):
            measured |= self._corruption(poison, undefended, defended)
        if flagged := self._shown(FlaggedRows):
            measured |= flags.flag_metrics(flagged, self._poisoned_rows(poison), train)
            flags.show_flags(flagged, self._poisoned_rows(poison), poisoned[0], train, ctx)
        if isolated := self._shown(IsolatedRows):
            measured |= detection.isolation_metrics(isolated.rows, self._poisoned_rows(poison))
        if trace := self._shown(PurificationTrace):
            measured |= surviving_metrics(trace)
        if sweep and isinstance(threat, Backdoor):
            measured |= measure_settings(
                sweep, undefended.member(0), self.splits.test, threat, self.spec.attack, ctx
            )
        return measured

    # -- stages -----------------------------------------------------------------------------------

    def _load(self) -> Splits:
        spec = self.spec
        pool, test = spec.dataset.build().load()
        splits = divide(pool, test, spec.dataset.params, spec.protocol)
        parts = {f.name: getattr(splits, f.name).to(self.ctx.device) for f in dataclasses.fields(splits)}
        return Splits(**parts)

    def _train_hooked(self, poison: Poison) -> Victims:
        """Undefended victims in whose training the attacker has a hand."""
        make_hook = partial(self.attack.training_hook, poison)
        key = [self.spec.attack, fingerprint(*poison.tensors().values())]
        return self.trainer.train(
            "victim", [self.splits.train], poison.trials, make_hook=make_hook, hook_key=key
        )

    def _defend(
        self, poison: Poison, poisoned: Sequence[ImageSet], undefended: Victims, threat: Threat
    ) -> tuple[Victims, SettingSweep | None]:
        """The moments of the defense that change data or models; those it does not override cost nothing."""
        defender, method, ctx = self.defender, self.defender.method, self.ctx
        sets, victims, sweep = poisoned, undefended, None
        if defender.overrides("purify"):
            sets = purify_sets(self.splits.train, poison, poisoned, defender, ctx)
        if method.filters:
            sets = defender.without_flagged(poisoned, undefended)
        hooked = defender.overrides("training_hook")
        if sets is not poisoned or hooked:
            name, make_hook = "defended_victim", method.training_hook if hooked else None
            target_hits = TargetHits.of(name, threat, ctx)
            victims = self.trainer.train(
                name, sets, poison.trials, make_hook=make_hook, hook_key=defender.key, observer=target_hits
            )
        if method.repairs():
            victims, sweep = self._repair(victims, sets, threat)
        return victims, sweep

    def _repair(
        self, victims: Victims, sets: Sequence[ImageSet], threat: Threat
    ) -> tuple[Victims, SettingSweep | None]:
        """Repaired victims, and the setting sweep of the last one's repair where it has one.

        Args:
            sets: what each victim was trained on, for a defense that asks for it.
        """
        method, clean = self.defender.method, self.defender.clean()
        asks = self.defender.overrides("repair_with_suspects")
        observer = Observer(self.splits.test, threat)  # looks at the first trial

        def look(
            phase: str, step: int, model: Module
        ) -> None:  # a defense is handed no object that knows the threat
            observer(phase, step, model)

        def compute(inner: Context) -> Bundle:
            repaired, swept = [], Bundle()
            result: Classifier | SettingSweep
            for number in range(victims.members):
                model = victims.member(number)
                shown = dataclasses.replace(inner, observer=None if number else look)
                if asks:
                    result = method.repair_with_suspects(model, clean, sets[number], shown)
                else:
                    result = method.repair(model, clean, shown)
                if isinstance(result, SettingSweep):
                    swept = Bundle(result.tensors(), result.data())
                    result = result.apply(model, result.chosen)
                repaired.append(result)
                inner.observe("trials", number + 1, result)
            if trace := observer.trace():
                inner.artifact("repair_trace", trace)
            return Bundle(Victims.of(repaired).tensors() | swept.tensors, swept.data)

        seen = victims.identity(), fingerprint_images([clean]), observer.key()
        key: list[object] = [*seen, self.defender.key]
        if asks:
            key.append(fingerprint_images(sets))
        ctx = dataclasses.replace(self.ctx, observer=TargetHits.of("repair", threat, self.ctx))
        done = run_stage(ctx, "repair", key, compute)
        scores = self._shown(NeuronScores)
        if isinstance(threat, Backdoor) and scores and scores.modules:
            show = partial(show_drive, method, victims.member(0), scores, observer, len(clean))
            run_stage(ctx, "drive", key, show)
        sweep = SettingSweep.from_tensors(done.tensors, done.data) if done.data else None
        return Victims.from_tensors(victims.network, done.tensors).serving(victims.trials), sweep

    def _spot(
        self, poison: Poison, poisoned: ImageSet, threat: Threat, control: Victims, undefended: Victims
    ) -> dict[str, float]:
        """Detection on the victim with its training set, and on the control with its own: false alarms count, too.

        Where nobody attacks, only scores of images are measured: there is no backdoor to be named.
        """
        backdoored = isinstance(threat, Backdoor)
        if not (backdoored or isinstance(threat, Corruption)) or not self.defender.overrides("detect"):
            return {}
        train, target = (
            self.splits.train,
            threat.target_class if isinstance(threat, Backdoor) and poison.budget else None,
        )
        suspect, innocent = undefended.member(0), control.member(0)
        found = self.defender.detect_trial(0, undefended, poisoned)
        found_control = self.defender.detect("detect_control", innocent, train)
        if found is None or found_control is None:
            return {}
        is_poisoned = self._poisoned_rows(poison)
        show_suspicion(found, found_control, is_poisoned, self.ctx)
        measured = detection.sample_metrics(found, found_control, is_poisoned)
        if not backdoored:
            return measured
        show_detection(found, found_control, target, train.classes, self.ctx)
        show_recovered(found, suspect, self.defender.clean(), self.ctx)
        return detection.verdicts(found, found_control, target) | measured

    def _evaluate(
        self, threat: Threat, control: Victims, undefended: Victims, defended: Victims
    ) -> dict[str, float]:
        models = {"_control": control, "_undefended": undefended, "": defended}

        def compute(inner: Context) -> Bundle:
            recovered = self._shown(TriggerReconstruction)
            return Bundle(
                data={"metrics": measure_models(self.splits.test, threat, models, recovered, inner)}
            )

        uncached = dataclasses.replace(self.ctx, cache=None)
        return run_stage(uncached, "evaluate", None, compute).data["metrics"]

    def _corruption(self, poison: Poison, undefended: Victims, defended: Victims) -> dict[str, float]:
        """What perfect knowledge would give: a victim from scratch on the clean rows and the trusted images.

        No defender has it: the rows are the experimenter's.
        """
        bad, train, test = self._poisoned_rows(poison), self.splits.train, self.splits.test
        best = self.trainer.train("retrained", [joined(train[~bad], self.defender.clean())])
        if self.defender.method.repairs():
            flags.show_confusion(undefended.member(0), defended.member(0), test, self.ctx)
        return {
            "clean_accuracy_retrained": metrics.clean_accuracy(best.predict, test),
            "corrupted": bad.double().mean().item(),
        }

    def _poisoned_rows(self, poison: Poison) -> Tensor:
        """bool ``(n,)`` of the first trial's training set."""
        rows = torch.zeros(len(self.splits.train), dtype=torch.bool, device=self.splits.train.y.device)
        rows[poison.index[0]] = True
        return rows

    def _hear(self, send: Callable[[Event], None], event: Event) -> None:
        if isinstance(event, ArtifactReady):
            self.artifacts.append(event.value)
        send(event)

    def _shown(self, kind: type[T]) -> T | None:
        """The first artifact of a kind: what a defense found out is measured by what it shows."""
        return next((shown for shown in self.artifacts if isinstance(shown, kind)), None)
