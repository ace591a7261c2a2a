"""A run's defense: each of its moments is a stage, handed neither threat nor poisoned rows nor test set."""

from collections.abc import Sequence

from torch.nn import Module

from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.data.base import clean_subset
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier, identity
from poisonlab.spec.config import ExperimentSpec
from poisonlab.training.victims import Victims
from poisonlab.types import Bundle, Detection, ImageSet


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
        self.found: dict[
            int, Detection | None
        ] = {}  # by trial: what detection said of the undefended victims

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

    def detect(self, stage: str, model: Classifier, suspects: ImageSet) -> Detection | None:
        clean = self.clean()

        def compute(inner: Context) -> Bundle:
            found = self.method.detect(model, clean, suspects, inner)
            return Bundle(found.tensors(), found.data()) if found else Bundle()

        given = [identity(model), fingerprint_images([clean, suspects])]
        done = run_stage(self.ctx, stage, [given, self.key], compute)
        return Detection.from_tensors(done.tensors, done.data) if done.data else None

    def detect_trial(self, trial: int, undefended: Victims, poisoned: ImageSet) -> Detection | None:
        """What detection says of a trial's undefended victim; asked for twice, it is computed once."""
        if trial not in self.found:
            self.found[trial] = self.detect("detect", undefended.member(trial), poisoned)
        return self.found[trial]

    def without_flagged(self, poisoned: Sequence[ImageSet], undefended: Victims) -> Sequence[ImageSet]:
        """Each trial's training set without the images that detection flags; the given list if it flags none."""
        kept, dropped = [], 0
        for trial, data in enumerate(poisoned):
            found = self.detect_trial(trial, undefended, data)
            innocent = slice(None) if found is None or found.flagged is None else ~found.flagged
            kept.append(data[innocent])
            dropped += len(data) - len(kept[-1])
        return kept if dropped else poisoned
