"""A run's defense: each of its moments is a stage, handed neither threat nor poisoned rows nor test set."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import Module

from poisonlab.cache.packing import pack, unpack
from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.data.base import clean_subset
from poisonlab.defenses.base import Defense
from poisonlab.measure.galleries import activation_drive, show_drive
from poisonlab.measure.monitor import Observer, TargetHits
from poisonlab.models.base import Classifier, identity
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.training.loop import Diverged
from poisonlab.training.victims import Victims
from poisonlab.types import (
    Backdoor,
    Bundle,
    ChannelScores,
    Detection,
    Findings,
    ImageSet,
    Screening,
    SettingSweep,
    Threat,
)


class Defender:
    """The method, what it is granted, and what it found out.

    Attributes:
        key: what decides what the method does, for keys of stages.
        learned: hashes of the public images and of the networks that :meth:`prepare` learned from them.
    """

    def __init__(self, spec: ExperimentSpec, reserve: ImageSet, ctx: Context) -> None:
        self.method: Defense = spec.defense.build()
        self.key: list[object] = [spec.defense, spec.seed]
        self.learned: list[str] = []
        self.reserve = reserve
        self.clean_images = spec.clean_images
        self.ctx = ctx
        self._detections: dict[int, Detection | None] = {}  # of the undefended victims, by trial

    def overrides(self, moment: str) -> bool:
        """Whether the method changes a moment; one that it leaves alone costs nothing."""
        return type(self.method).overrides(moment)

    def clean(self) -> ImageSet:
        """The trusted images."""
        return clean_subset(self.reserve, self.clean_images, self.ctx.generator("clean images"))

    def prepare(self, public: ImageSet) -> None:
        self.method.prepare(public, self.ctx)
        networks = [value for value in vars(self.method).values() if isinstance(value, Module)]
        if self.overrides("prepare"):
            weights = fingerprint(*(t for network in networks for t in network.state_dict().values()))
            self.learned = [fingerprint_images([public]), weights]

    def purify(self, stage: str, data: ImageSet) -> ImageSet:
        def compute(inner: Context) -> Bundle:
            out = self.method.purify(data, inner)
            return Bundle({"x": out.x, "y": out.y})

        key = [fingerprint_images([data]), self.learned, self.key]
        done = run_stage(self.ctx, stage, key, compute).tensors
        return ImageSet(done["x"], done["y"], data.classes, data.split)

    def detect(self, stage: str, model: Classifier, suspects: ImageSet, trial: int = 0) -> Detection | None:
        clean = self.clean()

        def compute(inner: Context) -> Bundle:
            found = self.method.detect(model, clean, suspects, inner)
            if found is None:
                return Bundle()
            _refuse_what_is_no_number(found.class_scores, "classes", self.method.name)
            if found.sample_scores is not None:
                _refuse_what_is_no_number(found.sample_scores, "training images", self.method.name)
            return pack(found)

        given = [identity(model), fingerprint_images([clean, suspects])]
        done = run_stage(self.ctx.of_trial(trial), stage, [given, self.key], compute)
        return unpack(Detection, done) if done.data else None

    def detect_trial(self, trial: int, undefended: Victims, poisoned: ImageSet) -> Detection | None:
        """The detection on a trial's undefended victim; asked for twice, it is computed once."""
        if trial not in self._detections:
            self._detections[trial] = self.detect(Stage.DETECT, undefended.member(trial), poisoned, trial)
        return self._detections[trial]

    def screen(self, stage: str, model: Classifier, x: Tensor) -> Screening | None:
        """How suspicious inputs are. The method learns from one half of the trusted images and scores the other;
        ``None`` if these are too few for it.

        Args:
            x: uint8 ``(n, c, h, w)``, triggered or not: only the experimenter knows.

        Raises:
            ValueError: some scores are no finite numbers.
        """
        clean = self.clean()
        half = (len(clean) + 1) // 2
        known = clean[:half]
        kept_back = clean[half:]

        def compute(inner: Context) -> Bundle:
            scores = self.method.screen(model, known, torch.cat([x, kept_back.x]), inner)
            if scores is None:
                inner.log(
                    f"{self.method.name} learns from half of the trusted images, {len(known)}, which are too few to "
                    "screen by: inputs are not screened; raise clean_images",
                    "warning",
                )
                return Bundle()
            _refuse_what_is_no_number(scores, "inputs", self.method.name)
            return pack(Screening(scores[: len(x)], scores[len(x) :], self.method.screening_limit()))

        given = [identity(model), fingerprint_images([clean]), fingerprint(x)]
        done = run_stage(self.ctx, stage, [given, self.key], compute)
        return unpack(Screening, done) if done.data else None

    def without_flagged(self, poisoned: Sequence[ImageSet], undefended: Victims) -> Sequence[ImageSet]:
        """Each trial's training set without the images that detection flags; the given list if it flags none."""
        kept = []
        dropped = 0
        for trial, data in enumerate(poisoned):
            found = self.detect_trial(trial, undefended, data)
            unflagged = slice(None) if found is None or found.flagged is None else ~found.flagged
            kept.append(data[unflagged])
            dropped += len(data) - len(kept[-1])
        return kept if dropped else poisoned


def _refuse_what_is_no_number(scores: Tensor, judged: str, name: str) -> None:
    undefined = int((~scores.isfinite()).sum())
    if undefined:
        raise ValueError(
            f"the scores that {name} gives {undefined} of {len(scores)} {judged} are no finite numbers: its parameters "
            "are too extreme for this network; change them, or choose another defense"
        )


@dataclass(frozen=True)
class Repaired:
    """Victims after their repair.

    Attributes:
        findings: what the defense found out in each of them.
        sweep: all settings of the first one's repair, of a defense with a free setting.
    """

    victims: Victims
    findings: tuple[Findings, ...]
    sweep: SettingSweep | None


@dataclass(frozen=True)
class _Outcome:
    """What the stage keeps of a repair beside the victims."""

    findings: tuple[Findings, ...]
    sweep: SettingSweep | None


def repair(
    defender: Defender, victims: Victims, sets: Sequence[ImageSet], test: ImageSet, threat: Threat
) -> Repaired:
    """Repair each victim, one stage; the experimenter looks on and the defense does not know it.

    Args:
        sets: what each victim was trained on, for a defense that asks for it.
        test, threat: what the experimenter measures with; neither is handed to the defense.
    """
    method = defender.method
    clean = defender.clean()
    asks = defender.overrides("repair_with_suspects")
    observer = Observer(test, threat)

    def look(phase: str, step: int, model: Module) -> None:  # an observer is an object that knows the threat
        observer(phase, step, model)

    def compute(inner: Context) -> Bundle:
        repaired = []
        findings = []
        sweep = None
        for number in range(victims.members):
            model = victims.member(number)
            watching = look if number == 0 else None  # the first trial is the one that is looked at
            own = dataclasses.replace(inner.of_trial(number), observer=watching)
            if asks:
                done = method.repair_with_suspects(model, clean, sets[number], own)
            else:
                done = method.repair(model, clean, own)
            if number == 0 and isinstance(done.result, SettingSweep):
                sweep = done.result
            if done.findings.flags:
                _refuse_what_is_no_number(done.findings.flags.scores, "training images", method.name)
            repaired.append(done.model(model))
            findings.append(done.findings)
            inner.observe("trials", number + 1, repaired[-1])
        trace = observer.trace()
        if trace:
            inner.artifact("repair_trace", trace)
        outcome = pack(_Outcome(tuple(findings), sweep))
        return Bundle(Victims.of(repaired).tensors() | outcome.tensors, outcome.data)

    ctx = defender.ctx.watched_by(TargetHits.of(threat))
    key = [
        victims.identity(),
        fingerprint_images([clean]),
        observer.key(),
        defender.key,
        fingerprint_images(sets) if asks else None,
    ]
    bundle = run_stage(ctx, Stage.REPAIR, key, compute)
    outcome = unpack(_Outcome, bundle)
    channels = outcome.findings[0].channels
    if channels and isinstance(threat, Backdoor):
        drive = partial(_drive, method, victims.member(0), channels, observer, len(clean))
        run_stage(ctx, Stage.DRIVE, key, drive)
    repaired_victims = Victims.from_tensors(victims.network, bundle.tensors).serving(victims.trials)
    return Repaired(repaired_victims, outcome.findings, outcome.sweep)


def _drive(
    method: Defense,
    model: Classifier,
    channels: ChannelScores,
    seen: Observer,
    count: int,
    ctx: Context,
) -> Bundle:
    """What the trigger does to each channel beside its score, and how much it changes when ``count`` triggered images,
    which no defender has, are unlearned."""
    drive = activation_drive(model, channels.modules, seen.victims.x, seen.triggered)
    triggered = dataclasses.replace(seen.victims, x=seen.triggered, y=seen.adversarial)[:count]
    show_drive(channels, drive, _change_by_unlearning(method, model, triggered, ctx), ctx)
    return Bundle()


def _change_by_unlearning(method: Defense, model: Classifier, data: ImageSet, ctx: Context) -> Tensor | None:
    try:
        return method.change_by_unlearning(model, data, ctx)
    except Diverged as error:  # only a picture is lost
        ctx.log(f"no weight change of triggered images to show: {error}", "warning")
        return None
