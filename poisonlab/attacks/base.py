"""The contract of an attack."""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.registry import Card
from poisonlab.spec.config import Config, Protocol, TrainingConfig, VictimPart
from poisonlab.spec.threats import ThreatKind
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet, Poison, Threat


class SurrogateTrainer(typing.Protocol):
    """Trains the attacker's networks from scratch, each from its own random start."""

    def __call__(
        self,
        number: int,
        images: ImageSet | None = None,
        victim: VictimPart | None = None,
        dropout: float = 0.0,
        recipe: Callable[[str], TrainingConfig] | None = None,
    ) -> Classifier:
        """A network in eval mode.

        Args:
            number: decides the random start.
            images: its training set; by default that of the extractor, from scratch the training set.
            victim: its kind, one that the parameter ``surrogates`` names; by default the victim's.
            dropout: share of activations dropped while it learns.
            recipe: from the name of its kind to how it is trained; by default as the victim is.
        """


@dataclass(frozen=True)
class AttackerView:
    """What is accessible to an attacker; the method's card says which of it its threat model grants.

    Attributes:
        train: the training set before poisoning.
        candidates: images that may be chosen as targets.
        clean_model: a model the attacker trained without poison, under the victim's protocol and
            (white box) on the victim's extractor. Trained at the first call.
        extractor: the pretrained network that a transfer victim starts from (white box); from scratch, ``clean_model``.
        public: clean labeled images of the same classes, none of them in the training set; empty for an attack
            whose ``reads_public`` is not set.
        surrogate: trains a network of the attacker's own.
    """

    train: ImageSet
    candidates: ImageSet
    clean_model: Callable[[], Classifier]
    extractor: Callable[[], Classifier]
    public: ImageSet
    surrogate: SurrogateTrainer


def check_target(target_class: int, classes: int) -> None:
    """
    Raises:
        ValueError: there is no such class.
    """
    if target_class >= classes:
        raise ValueError(f"target_class={target_class} is not among the {classes} classes 0 to {classes - 1}")


class Attack:
    """Base of all attacks.

    Class attributes:
        Config: its parameters. card: its description on the pages.
        protocols: the training protocols it works under, the first being the default.
        recipe: which of a dataset's recipes trains its victims from scratch, where the dataset has that one.
        poisons: whether it changes any training image.
        reads_public: whether it uses ``view.public``; the poison of others does not depend on those images.
        clean_label: whether every poisoned image keeps its label.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Config]]
    card: ClassVar[Card]
    protocols: ClassVar[tuple[Protocol, ...]] = ("from_scratch",)
    recipe: ClassVar[str] = "training"
    poisons: ClassVar[bool] = True
    reads_public: ClassVar[bool] = False
    clean_label: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    def check_images(self, train: ImageSet) -> None:
        """Before anything is computed: whether the training set can hold as many images as the parameters ask for.

        The parameter ``poisons``, where there is one, counts images of the class that the target should be given, or
        of any where chance decides; an attack that needs others overrides this.

        Raises:
            ValueError: it cannot; names the parameter and both numbers.
        """
        poisons = getattr(self.config, "poisons", 0)
        label = getattr(self.config, "target_class", -1)
        counts = torch.bincount(train.y.cpu(), minlength=len(train.classes))
        most = int(counts[label] if label >= 0 else counts.max())
        if poisons > most:
            raise ValueError(
                f"attack.poisons={poisons} asks for more than the {most} training images of a class; lower it"
            )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        """Before anything is computed: whether the attack can do with this kind of network.

        Args:
            network: a victim without numbers, on torch's device ``meta``. shape: ``(c, h, w)`` of an image.

        Raises:
            ValueError: it cannot; says what the network lacks.
        """

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        """Choose and change training images; nothing in ``view`` is modified.

        Raises:
            ValueError: the parameters ask for what the data does not hold; names both numbers.
        """
        raise NotImplementedError

    def bound(self) -> float | None:
        """The most that any pixel of a poisoned image is changed by, in 1/255; ``None`` without such a limit.

        It is the parameter ``eps`` where there is one; an attack that changes more overrides this.
        """
        return getattr(self.config, "eps", None)

    def training_hook(self, poison: Poison, ctx: Context) -> TrainingHook | None:
        """The attacker's part in the training of the undefended victim, for attacks that control it.

        With a hook the victim trains on the unpoisoned images (protocol ``from_scratch``): it is the hook that poisons
        its batches. Defenses that retrain do so without it, on the finalized poison.
        """
        return None

    def finalize(self, poison: Poison, learned: dict[str, Tensor], train: ImageSet) -> Poison:
        """The poison after training with the hook: same rows and labels, the final trigger."""
        return poison

    def threat(self, poison: Poison, classes: int) -> Threat:
        """How success is measured, rebuilt from the parameters and what ``poison`` learned.

        The annotation of what an attack's own method returns names the kind of threat, see :meth:`threat_kind`.
        """
        raise NotImplementedError

    @classmethod
    def threat_kind(cls) -> ThreatKind | None:
        """The kind of threat that the attack poses, known before it has run; ``None`` where it may be of several.

        Raises:
            TypeError: nothing says what :meth:`threat` returns, or only for a type checker.
        """
        try:
            returned = typing.get_type_hints(cls.threat)["return"]
        except (KeyError, NameError) as error:
            raise TypeError(
                f"{cls.__name__}.threat must be annotated with what it returns, such as -> Backdoor, by a name that is "
                "imported at run time: the kind of threat is read there"
            ) from error
        kind: ThreatKind | None = getattr(returned, "kind", None)
        return kind
