"""The protocol of an experiment, stage by stage:

    dataset -> poison -> [purify] -> train -> [detect] -> [repair] -> evaluate

Every run measures three models on the same images: a control trained without poison, the undefended
victim, and the defended one. Each stage is cached under the hash of what it depends on, so ten
defenses against one attack craft the poison and train the victim once. A defense that filters has
its victim trained anew without the images that detection accused.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from poisonlab import detection, inspection, metrics, review
from poisonlab.artifacts import FlaggedRows, IsolatedRows, NeuronScores, PurificationTrace, TriggerReconstruction
from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.surrogates import DropoutTraining
from poisonlab.config import ExperimentSpec, VictimPart
from poisonlab.context import Context
from poisonlab.data.base import clean_subset, divide
from poisonlab.defenses.base import Defense
from poisonlab.evaluation import measure_models, measure_settings
from poisonlab.events import ArtifactReady, Event, StageFinished
from poisonlab.inspection import (
    show_detection,
    show_drive,
    show_poison,
    show_recovered,
    show_suspicion,
)
from poisonlab.models.base import Classifier
from poisonlab.observation import Observer, Tally
from poisonlab.purification import show_purification, surviving_metrics
from poisonlab.stages import Bundle, fingerprint, fingerprint_of
from poisonlab.types import Backdoor, Corruption, Detection, Dial, ImageSet, Poison, Splits, Targeted, Threat, joined
from poisonlab.victims import MakeHook, Victims, train_from_scratch, train_on_extractor, train_transfer

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
        self.spec, self.ctx = spec, dataclasses.replace(ctx, send=partial(self._hear, ctx.send))
        self.artifacts: list[Any] = []  # shown so far, by cached stages too
        self.found: dict[int, Detection | None] = {}  # by trial: what detection said of the undefended victims
        self.attack: Attack = spec.attack.build()
        self.defense: Defense = spec.defense.build()
        self.splits = self._load()

    def run(self) -> dict[str, float]:
        ctx, train = self.ctx, self.splits.train
        poison = self._poison()
        hooked = self.attack.training_hook(poison, ctx) is not None
        if not hooked:
            show_poison(train, poison, ctx)
        control = self._train("control", [train], poison.trials)
        if hooked:  # the victim's training teaches the attacker the final trigger
            undefended = self._train_hooked(poison)
            poison = self.attack.settle(poison, undefended.learned, train)
            show_poison(train, poison, ctx)
        threat, poisoned = self.attack.threat(poison, len(train.classes)), poison.sets(train)
        if not hooked:
            undefended = self._train("victim", poisoned, poison.trials, tally=self._tally("victim", threat))
        self.public = self._public(threat)
        self.defense.prepare(self.public, ctx)
        spotted = self._spot(poison, poisoned[0], threat, control, undefended)
        defended, dial = self._defend(poison, poisoned, undefended, threat)
        measured = self._evaluate(threat, control, undefended, defended) | spotted
        if isinstance(threat, Corruption):
            measured |= self._corruption(poison, undefended, defended)
        if flagged := self._shown(FlaggedRows):
            measured |= review.flag_metrics(flagged, self._poisoned_rows(poison), train)
            review.show_flags(flagged, self._poisoned_rows(poison), poisoned[0], train, ctx)
        if isolated := self._shown(IsolatedRows):
            measured |= detection.isolation_metrics(isolated.rows, self._poisoned_rows(poison))
        if trace := self._shown(PurificationTrace):
            measured |= surviving_metrics(trace)
        if dial and isinstance(threat, Backdoor):
            chosen = self.spec.attack.model_dump(mode="json")
            measured |= measure_settings(dial, undefended.member(0), self.splits.test, threat, chosen, ctx)
        return measured

    # -- stages -----------------------------------------------------------------------------------

    def _load(self) -> Splits:
        spec = self.spec
        pool, test = spec.dataset.build().load()
        splits = divide(pool, test, spec.dataset.params, spec.protocol)
        parts = {f.name: getattr(splits, f.name).to(self.ctx.device) for f in dataclasses.fields(splits)}
        return Splits(**parts)

    def _poison(self) -> Poison:
        splits = self.splits

        # what the attacker trains has a seed of its own: the control below is another model
        first = self.ctx.seed + 1_000_003

        def clean_model() -> Classifier:
            return self._train("attackers_model", [splits.train], seed=first).member(0)

        def extractor() -> Classifier:
            return clean_model() if self.spec.protocol == "from_scratch" else self._extractor().member(0)

        def surrogate(
            number: int, images: ImageSet | None = None, victim: VictimPart | None = None, dropout: float = 0.0
        ) -> Classifier:
            spec, ctx = self._reseeded(first + 1 + number)
            spec = spec.model_copy(update={"victim": victim or spec.victim})
            shared = splits.train if spec.protocol == "from_scratch" else splits.pretrain
            make_hook = partial(DropoutTraining.of, dropout)
            return train_from_scratch(
                "surrogate", spec, [shared if images is None else images], ctx, make_hook, dropout
            ).member(0)

        def compute(inner: Context) -> Bundle:
            view = AttackerView(splits.train, splits.test, clean_model, extractor, splits.public, surrogate)
            return Bundle(self.attack.poison(view, inner).tensors())

        seen = (splits.train, splits.test, splits.public, splits.pretrain)
        key = [
            fingerprint(*(t for part in seen for t in (part.x, part.y))),
            self.spec.attack.model_dump(mode="json"),
            self.spec.model_dump(mode="json", include={"victim", "protocol", "training", "head", "fine_tune", "seed"}),
        ]
        code = [type(self.attack), _Experiment]
        return Poison.from_tensors(self.ctx.stage("poison", key, code, compute).tensors)

    def _train_hooked(self, poison: Poison) -> Victims:
        """Undefended victims in whose training the attacker has a hand."""
        make_hook = partial(self.attack.training_hook, poison)
        key = [self.spec.attack.model_dump(mode="json"), fingerprint(*poison.tensors().values())]
        return self._train("victim", [self.splits.train], poison.trials, make_hook=make_hook, hook_key=key)

    def _train(
        self,
        name: str,
        sets: Sequence[ImageSet],
        trials: int = 1,
        *,
        seed: int | None = None,
        make_hook: MakeHook | None = None,
        hook_key: Any = None,
        tally: Tally | None = None,
    ) -> Victims:
        """Victims of the spec's protocol, one for each training set, which is a trial's own or the same for all."""
        spec, ctx = self._reseeded(seed)
        if self.spec.protocol == "linear_transfer" and make_hook is None:
            return train_transfer(name, spec, self._extractor(), sets, trials, ctx)
        ctx = dataclasses.replace(ctx, observer=tally)
        if self.spec.protocol == "from_scratch":
            victims = train_from_scratch(name, spec, sets, ctx, make_hook, hook_key)
        else:
            victims = train_on_extractor(name, spec, self._extractor(), sets, ctx, make_hook, hook_key)
        return victims.serving(trials)

    def _tally(self, stage: str, threat: Threat) -> Tally | None:
        """Reports what the victim of each trial says of its target as soon as it is trained."""
        if not isinstance(threat, Targeted):
            return None
        return Tally(threat, dataclasses.replace(self.ctx, stage_name=stage))

    def _extractor(self) -> Victims:
        """The pretrained network that all victims of a transfer protocol start from."""
        return train_from_scratch("extractor", self.spec, [self.splits.pretrain], self.ctx)

    def _reseeded(self, seed: int | None) -> tuple[ExperimentSpec, Context]:
        """Spec and context with another seed, or the run's own."""
        if seed is None:
            return self.spec, self.ctx
        return self.spec.model_copy(update={"seed": seed}), self.ctx.reseeded(seed)

    def _defend(
        self, poison: Poison, poisoned: Sequence[ImageSet], undefended: Victims, threat: Threat
    ) -> tuple[Victims, Dial | None]:
        """The moments of the defense that change data or models; those it does not override cost nothing."""
        kind = type(self.defense)
        sets, victims, dial = poisoned, undefended, None
        if kind.overrides("purify"):
            sets = self._purify(poison, poisoned)
        if kind.filters:
            sets = self._without_accused(poisoned, undefended)
        if sets is not poisoned or kind.overrides("training_hook"):
            name, key = "defended_victim", self._defense_key()
            make_hook = self.defense.training_hook if kind.overrides("training_hook") else None
            tally = self._tally(name, threat)
            victims = self._train(name, sets, poison.trials, make_hook=make_hook, hook_key=key, tally=tally)
        if kind.repairs():
            victims, dial = self._repair(victims, sets, threat)
        return victims, dial

    def _public(self, threat: Threat) -> ImageSet:
        """What generative models learn from; in a stress test the attacker's trigger is in some of it."""
        public, share = self.splits.public, self.spec.public_poison
        if not share:
            return public
        if not isinstance(threat, Backdoor):
            raise ValueError(f"public_poison={share} needs a trigger; attack {self.spec.attack.name!r} has none")
        order = torch.randperm(len(public), generator=self.ctx.generator("public poison"), device=public.x.device)
        rows, x = order[: round(share * len(public))], public.x.clone()
        x[rows] = threat.trigger(x[rows])
        return dataclasses.replace(public, x=x, split=f"{public.split}, {share:.0%} of them with the trigger")

    def _purify(self, poison: Poison, poisoned: Sequence[ImageSet]) -> Sequence[ImageSet]:
        train = self.splits.train
        if self.defense.per_image:  # the base once for all attacks on it, then only what the trials changed
            base = self._purify_set("purify", train)
            changed = ImageSet(poison.images.flatten(0, 1), poison.labels.flatten(), train.classes)
            if poison.budget:
                changed = self._purify_set("purify_poisons", changed)
            show_purification(train, poison, joined(base, changed), self.defense, self.ctx)
            return dataclasses.replace(poison, images=changed.x.view(poison.images.shape)).sets(base)
        sets = [self._purify_set("purify", s) for s in poisoned]
        if len(sets[0]) == len(train):  # none was dropped: rows are still the attacker's
            first = Poison(poison.index[:1], poison.images[:1], poison.labels[:1])
            rows = torch.cat([torch.arange(len(train), device=first.index.device), first.index[0]])
            show_purification(train, first, sets[0][rows], self.defense, self.ctx)
        return sets

    def _purify_set(self, stage: str, data: ImageSet) -> ImageSet:
        def compute(inner: Context) -> Bundle:
            out = self.defense.purify(data, inner)
            return Bundle({"x": out.x, "y": out.y})

        key = [fingerprint(data.x, data.y), fingerprint(self.public.x), self._defense_key()]
        done = self.ctx.stage(stage, key, [type(self.defense)], compute).tensors
        return ImageSet(done["x"], done["y"], data.classes, data.split)

    def _repair(self, victims: Victims, sets: Sequence[ImageSet], threat: Threat) -> tuple[Victims, Dial | None]:
        """Repaired victims, and the knob of the last one's repair where it has one.

        Args:
            sets: what each victim was trained on, for a defense that asks for it.
        """
        ctx, clean = self.ctx, self._clean_images()
        asks = type(self.defense).overrides("repair_with_suspects")
        observer = Observer(self.splits.test, threat)  # looks at the first trial

        def look(phase: str, step: int, model: Module) -> None:  # a defense is handed no object that knows the threat
            observer(phase, step, model)

        def compute(inner: Context) -> Bundle:
            repaired, knob = [], Bundle()
            result: Classifier | Dial
            for number in range(victims.members):
                model = victims.member(number)
                shown = dataclasses.replace(inner, observer=None if number else look)
                if asks:
                    result = self.defense.repair_with_suspects(model, clean, sets[number], shown)
                else:
                    result = self.defense.repair(model, clean, shown)
                if isinstance(result, Dial):
                    knob = Bundle(result.tensors(), result.data())
                    result = result.apply(model, result.chosen)
                repaired.append(result)
                inner.observe("trials", number + 1, result)
            if trace := observer.trace():
                inner.artifact("repair_trace", trace)
            return Bundle(Victims.of(repaired).tensors() | knob.tensors, knob.data)

        seen = fingerprint(*victims.tensors().values()), fingerprint(clean.x, clean.y), observer.key()
        key: list[object] = [*seen, self._defense_key()]
        if asks:
            key.append(fingerprint_of(t for s in sets for t in (s.x, s.y)))
        ctx = dataclasses.replace(self.ctx, observer=self._tally("repair", threat))
        done = ctx.stage("repair", key, [type(self.defense), Observer], compute)
        scores = self._shown(NeuronScores)
        if isinstance(threat, Backdoor) and scores and scores.modules:
            show = partial(show_drive, self.defense, victims.member(0), scores, observer, len(clean))
            ctx.stage("drive", key, [type(self.defense), inspection], show)
        dial = Dial.from_tensors(done.tensors, done.data) if done.data else None
        return Victims.from_tensors(victims.network, done.tensors).serving(victims.trials), dial

    def _clean_images(self) -> ImageSet:
        """The defender's trusted images."""
        return clean_subset(self.splits.reserve, self.spec.clean_images, self.ctx.generator("clean images"))

    def _spot(
        self, poison: Poison, poisoned: ImageSet, threat: Threat, control: Victims, undefended: Victims
    ) -> dict[str, float]:
        """Detection on the victim with its training set, and on the control with its own: false alarms count, too.

        Where nobody attacks, only scores of images are measured: there is no backdoor to be named.
        """
        backdoored = isinstance(threat, Backdoor)
        if not (backdoored or isinstance(threat, Corruption)) or not type(self.defense).overrides("detect"):
            return {}
        train, target = (
            self.splits.train,
            threat.target_class if isinstance(threat, Backdoor) and poison.budget else None,
        )
        suspect, innocent = undefended.member(0), control.member(0)
        found = self._found(0, undefended, poisoned)
        found_control = self._detect("detect_control", innocent, train)
        if found is None or found_control is None:
            return {}
        is_poisoned = self._poisoned_rows(poison)
        show_suspicion(found, found_control, is_poisoned, self.ctx)
        measured = detection.sample_metrics(found, found_control, is_poisoned)
        if not backdoored:
            return measured
        show_detection(found, found_control, target, train.classes, self.ctx)
        show_recovered(found, suspect, self._clean_images(), self.ctx)
        return detection.verdicts(found, found_control, target) | measured

    def _found(self, trial: int, undefended: Victims, poisoned: ImageSet) -> Detection | None:
        """What detection says of a trial's undefended victim; asked for twice, it is computed once."""
        if trial not in self.found:
            self.found[trial] = self._detect("detect", undefended.member(trial), poisoned)
        return self.found[trial]

    def _without_accused(self, poisoned: Sequence[ImageSet], undefended: Victims) -> Sequence[ImageSet]:
        """Each trial's training set without the images that detection accuses; the given list if it accuses none."""
        kept, dropped = [], 0
        for trial, data in enumerate(poisoned):
            found = self._found(trial, undefended, data)
            innocent = slice(None) if found is None or found.accused is None else ~found.accused
            kept.append(data[innocent])
            dropped += len(data) - len(kept[-1])
        return kept if dropped else poisoned

    def _detect(self, name: str, model: Classifier, suspects: ImageSet) -> Detection | None:
        clean = self._clean_images()

        def compute(inner: Context) -> Bundle:
            found = self.defense.detect(model, clean, suspects, inner)
            return Bundle(found.tensors(), found.data()) if found else Bundle()

        given = [fingerprint(*model.state_dict().values()), fingerprint(clean.x, clean.y, suspects.x, suspects.y)]
        done = self.ctx.stage(name, [given, self._defense_key()], [type(self.defense)], compute)
        return Detection.from_tensors(done.tensors, done.data) if done.data else None

    def _evaluate(self, threat: Threat, control: Victims, undefended: Victims, defended: Victims) -> dict[str, float]:
        models = {"_control": control, "_undefended": undefended, "": defended}

        def compute(inner: Context) -> Bundle:
            recovered = self._shown(TriggerReconstruction)
            return Bundle(data={"metrics": measure_models(self.splits.test, threat, models, recovered, inner)})

        uncached = dataclasses.replace(self.ctx, cache=None)
        return uncached.stage("evaluate", None, [], compute).data["metrics"]

    def _corruption(self, poison: Poison, undefended: Victims, defended: Victims) -> dict[str, float]:
        """What perfect knowledge would give: a victim from scratch on the clean rows and the trusted images.

        No defender has it: the rows are the experimenter's.
        """
        bad, train, test = self._poisoned_rows(poison), self.splits.train, self.splits.test
        best = self._train("retrained", [joined(train[~bad], self._clean_images())])
        if type(self.defense).repairs():
            review.show_confusion(undefended.member(0), defended.member(0), test, self.ctx)
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

    def _defense_key(self) -> list[object]:
        return [self.spec.defense.model_dump(mode="json"), self.spec.seed]
