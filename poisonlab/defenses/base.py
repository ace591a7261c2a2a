"""The contract of a defense. What it never receives: the threat, the poisoned rows, the test set."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.generative.langevin import Chain
from poisonlab.models.base import Classifier
from poisonlab.registry import Card
from poisonlab.spec.config import Config
from poisonlab.training.loop import TrainingHook
from poisonlab.types import Detection, Findings, ImageSet, SettingSweep

ISOLATED = "isolated"  # what a training hook calls the rows that it set aside, among what it learned


@dataclass(frozen=True)
class Repair:
    """What a repair returns.

    Attributes:
        result: a repaired copy of the model, in eval mode; or, of a defense with one free setting, all its settings and
            its own choice among them, so that the experimenter can measure what the others would have given.
        findings: what the defense found out on the way.
    """

    result: Classifier | SettingSweep
    findings: Findings = Findings()

    def model(self, given: Classifier) -> Classifier:
        """The repaired model; ``given`` is the one that was to be repaired."""
        if isinstance(self.result, SettingSweep):
            repaired: Classifier = self.result.apply(given, self.result.chosen)
            return repaired
        return self.result


class Defense:
    """Base of all defenses; each moment is the identity unless overridden.

    Class attributes:
        Config: its parameters. card: what a page tells about it.
        per_image: purification treats each image by itself, so that images shared by several trials
            are purified once.
        needs_clean_images: its repair, detection or screening cannot do without trusted images; a spec that grants none
            is refused.
        strength: the parameters, whole numbers, that say how hard it purifies.
        judges_models: its detection names a class of a network by trusted images alone, without the training set.
        filters: once its detection has flagged images, the victim is trained anew without them.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Config]]
    card: ClassVar[Card]
    per_image: ClassVar[bool] = True
    needs_clean_images: ClassVar[bool] = True
    strength: ClassVar[tuple[str, ...]] = ()
    judges_models: ClassVar[bool] = False
    filters: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        """Before anything is computed: whether the defense can do with this kind of network.

        Args:
            network: a victim without numbers, on torch's device ``meta``. shape: ``(c, h, w)`` of an image.

        Raises:
            ValueError: it cannot; says what the network lacks.
        """

    def check_images(self, public: ImageSet) -> None:
        """Before anything is computed: whether there are as many public images as the defense learns from.

        Raises:
            ValueError: there are not; says what to raise.
        """

    def check_trusted(self, clean: ImageSet) -> None:
        """Before anything is computed: whether the trusted images are enough to judge or repair a model by.

        Raises:
            ValueError: they are not; says what to raise.
        """

    def prepare(self, public: ImageSet, ctx: Context) -> None:
        """Before anything else: learn from public images, which share none with the training set."""

    def purify(self, data: ImageSet, ctx: Context) -> ImageSet:
        """Before training: change or drop training images."""
        return data

    def training_hook(self, ctx: Context) -> TrainingHook | None:
        """During training.

        Rows of images that the hook set aside, int64 ``(k,)``, are reported as :data:`ISOLATED` by its ``learned()``.
        """
        return None

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        """After training: a repaired copy, made with the trusted images only.

        Args:
            model: in eval mode; not to be changed.
            clean: trusted images.
        """
        return Repair(model)

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        """After training, of a defender who still has the training set: a repaired copy, made with it as well.

        A class overrides this moment or :meth:`repair`, not both.

        Args:
            model: in eval mode; not to be changed.
            clean: trusted images.
            suspects: what the model was trained on, poisoned or not, with the labels given there.
        """
        return Repair(model)

    def detect(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Detection | None:
        """After training: whether ``model`` holds a backdoor, to which class, and which training images brought it.

        Args:
            model: in eval mode; not to be changed.
            clean: trusted images.
            suspects: what the model was trained on, poisoned or not.
        """
        return None

    def screen(self, model: Classifier, clean: ImageSet, x: Tensor, ctx: Context) -> Tensor | None:
        """When the model is used: how suspicious each input is, float ``(n,)``; higher is more suspicious. ``None``
        where the trusted images are too few to judge any input.

        Each input is judged by itself: its score does not depend on the others that come with it.

        Args:
            model: in eval mode; not to be changed.
            clean: trusted images.
            x: inputs, uint8 ``(n, c, h, w)``, any of which may carry a trigger.
        """
        return torch.zeros(len(x), device=x.device)

    def screening_limit(self) -> float | None:
        """The score above which the paper stops an input; ``None`` where trusted images have to say it.

        It is the parameter ``threshold`` where there is one.
        """
        return getattr(self.config, "threshold", None)

    # -- for display only: nothing below feeds back into a result ------------------------------------

    def energy(self, x: Tensor) -> Tensor | None:
        """Energies ``(n,)`` of uint8 images, of a defense that has an energy model."""
        return None

    def trace(self, x: Tensor, ctx: Context) -> Chain | None:
        """The recorded chain that purifies uint8 images, of a defense that samples."""
        return None

    def change_by_unlearning(self, model: Classifier, data: ImageSet, ctx: Context) -> Tensor | None:
        """How much the weights of each neuron change when ``model`` unlearns ``data``, ``(neurons,)``, of a defense
        that scores neurons by it; in the order of its scores."""
        return None

    @classmethod
    def overrides(cls, moment: str) -> bool:
        """Whether this class changes a moment, so that the pipeline can skip the identity."""
        return getattr(cls, moment) is not getattr(Defense, moment)

    @classmethod
    def repairs(cls) -> bool:
        """Whether this class changes a trained model, with the training set at hand or without."""
        return cls.overrides("repair") or cls.overrides("repair_with_suspects")

    @classmethod
    def retrains(cls) -> bool:
        """Whether defended victims are trained anew, on other images or in another way."""
        return cls.overrides("purify") or cls.overrides("training_hook") or cls.filters

    @classmethod
    def changes_victims(cls) -> bool:
        """Whether there are defended victims beside the undefended ones."""
        return cls.retrains() or cls.repairs()


def evenly(steps: int, count: int) -> Collection[int]:
    """At most ``count`` whole numbers from 0 to ``steps``, ends included."""
    return sorted({round(i * steps / (count - 1)) for i in range(count)})
