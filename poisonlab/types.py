"""What all rooms exchange: image sets, poisons, threats, what a defense found, what a stage hands on."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import Module

from poisonlab import machine
from poisonlab.spec.threats import ThreatKind


@dataclass(frozen=True)
class Bundle:
    """What a stage hands on, and all that can be cached of it.

    Attributes:
        tensors: by name, of any shape.
        data: JSON-able values by name.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> Self:
        return replace(self, tensors={name: value.to(device) for name, value in self.tensors.items()})


@dataclass(frozen=True)
class ImageSet:
    """Images with labels, on one device.

    Attributes:
        x: uint8 ``(n, c, h, w)``.
        y: int64 ``(n,)``, in ``[0, len(classes))``.
        classes: class names; their positions are the labels.
        split: ``train``, ``test``, ``clean``, ... for messages.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    split: str = "train"

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.ndim != 4:
            raise ValueError(f"images must be uint8 (n, c, h, w); got {self.x.dtype} {tuple(self.x.shape)}")
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"labels must be int64 ({len(self.x)},); got {self.y.dtype} {tuple(self.y.shape)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Self:
        return replace(self, x=self.x[index], y=self.y[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of an image."""
        c, h, w = self.x.shape[1:]
        return c, h, w

    def to(self, device: torch.device) -> Self:
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def named(self, split: str) -> Self:
        return replace(self, split=split)


def joined(*sets: ImageSet) -> ImageSet:
    """All images of several sets with the same classes, in order."""
    return replace(sets[0], x=torch.cat([s.x for s in sets]), y=torch.cat([s.y for s in sets]))


@dataclass(frozen=True)
class Splits:
    """Who may see which images. ``train`` shares no image with any other part.

    Attributes:
        train: the set that is attacked.
        test: never seen in training; success and accuracy are read here.
        reserve: the defender's trusted images are drawn from here.
        public: clean images that generative models may learn from.
        pretrain: the extractor learns from these (transfer protocols only, else empty);
            may overlap with ``public``, as the reserve may.
        data: fingerprint of the whole dataset as it was loaded; empty where nobody took it.
    """

    train: ImageSet
    test: ImageSet
    reserve: ImageSet
    public: ImageSet
    pretrain: ImageSet
    data: str = ""

    def to(self, device: torch.device) -> Self:
        """The same parts on ``device``."""
        return replace(
            self,
            train=self.train.to(device),
            test=self.test.to(device),
            reserve=self.reserve.to(device),
            public=self.public.to(device),
            pretrain=self.pretrain.to(device),
        )


@dataclass(frozen=True)
class Poison:
    """What an attack changes in a training set, for one or several independent trials.

    A backdoor has one trial; a targeted attack has one per target. In trial ``t`` the images at
    ``index[t]`` are replaced by ``images[t]`` and labeled ``labels[t]``; all others stay.

    Attributes:
        index: int64 ``(trials, k)``, rows of the training set, none twice within a trial.
        images: uint8 ``(trials, k, c, h, w)``.
        labels: int64 ``(trials, k)``.
        state: learned tensors the attack needs to rebuild its threat (a pattern, target images).
    """

    index: Tensor
    images: Tensor
    labels: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return len(self.index)

    @property
    def budget(self) -> int:
        """Poisoned images in a trial."""
        return self.index.shape[1]

    def apply(self, train: ImageSet, trial: int = 0) -> ImageSet:
        """The poisoned training set of a trial; ``train`` is not changed."""
        x = machine.own_copy(train.x)
        y = train.y.clone()
        x[self.index[trial]] = self.images[trial]
        y[self.index[trial]] = self.labels[trial]
        return replace(train, x=x, y=y)

    def sets(self, train: ImageSet) -> "PoisonedSets":
        """The poisoned training sets of all trials."""
        return PoisonedSets(train, self)

    def tensors(self) -> dict[str, Tensor]:
        """Flat form for the stage cache; :meth:`from_tensors` is its inverse."""
        own = {"index": self.index, "images": self.images, "labels": self.labels}
        everything = own | {f"state.{k}": v for k, v in self.state.items()}
        return dict(sorted(everything.items()))  # computed and loaded ones in one order: keys are made of it

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
        return cls(tensors["index"], tensors["images"], tensors["labels"], state)


@dataclass(frozen=True)
class PoisonedSets(Sequence[ImageSet]):
    """A training set for each trial, built whenever it is read: memory holds the clean one and the changes."""

    train: ImageSet
    poison: Poison

    def __len__(self) -> int:
        return self.poison.trials

    def __getitem__(self, trial: int) -> ImageSet:  # type: ignore[override]
        return self.poison.apply(self.train, range(len(self))[trial])


@dataclass(frozen=True)
class Backdoor:
    """Success is a triggered image given the attacker's label.

    Attributes:
        trigger: uint8 ``(n, c, h, w)`` -> the same with the trigger; pure.
        relabel: true labels ``(n,)`` -> the attacker's labels ``(n,)``.
        target_class: the one target, or ``None`` for all-to-all.
        source_class: the one class whose images are attacked; ``None`` for all but the target.
    """

    kind: ClassVar[ThreatKind] = "backdoor"

    trigger: Callable[[Tensor], Tensor]
    relabel: Callable[[Tensor], Tensor]
    target_class: int | None
    source_class: int | None = None

    def attacked(self, y: Tensor) -> Tensor:
        """bool ``(n,)``: which images of true labels ``(n,)`` the trigger is put on, and success is counted over."""
        if self.source_class is not None:
            return y == self.source_class
        if self.target_class is not None:
            return y != self.target_class
        return torch.ones_like(y, dtype=torch.bool)


@dataclass(frozen=True)
class Targeted:
    """Success is a chosen, unchanged test image given the attacker's label; one image a trial.

    Attributes:
        images: uint8 ``(trials, c, h, w)``.
        true_labels, adversarial_labels: int64 ``(trials,)``.
    """

    kind: ClassVar[ThreatKind] = "targeted"

    images: Tensor
    true_labels: Tensor
    adversarial_labels: Tensor


@dataclass(frozen=True)
class Corruption:
    """Wrong labels or corrupted images without an attacker: success is the loss of clean accuracy."""

    kind: ClassVar[ThreatKind] = "corruption"


Threat = Backdoor | Targeted | Corruption


@dataclass(frozen=True)
class SettingSweep:
    """A repair with one free setting: what each setting makes of the model, and which setting is used.

    Attributes:
        setting_name: what the settings are, for axes.
        settings: float ``(s,)``, from the weakest, which changes nothing, to the strongest.
        clean_score: float ``(s,)``, accuracy on the defender's own images: all that the choice may depend on.
        chosen: position of the setting that is used.
        variants: state-dict name -> ``(s, ...)``, what replaces the model's own tensors at each setting.
        stand_in: float ``(s,)``, success of a pattern that the defender found and takes for the trigger; empty of a
            defense that searches for none.
        by_rule: whether clean data chose; else a parameter did.
    """

    setting_name: str
    settings: Tensor
    clean_score: Tensor
    chosen: int
    variants: dict[str, Tensor]
    stand_in: Tensor = field(default_factory=lambda: torch.zeros(0))
    by_rule: bool = True

    def apply(self, model: Module, position: int) -> Any:
        """A copy of ``model`` at one setting."""
        return self.turn(copy.deepcopy(model), position)

    def turn(self, model: Module, position: int) -> Any:
        """``model`` itself, brought to one setting from any other; all of them replace the same tensors."""
        model.load_state_dict({k: v[position] for k, v in self.variants.items()}, strict=False)
        return model


def stacked(models: Sequence[Module]) -> dict[str, Tensor]:
    """Variants of a sweep whose every setting is a whole network."""
    states = [model.state_dict() for model in models]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


@dataclass(frozen=True)
class Detection:
    """A defense's verdict on a model and on the images it was trained on.

    Attributes:
        backdoored: the verdict.
        target: the class it names, ``None`` without one.
        score: what ``class_scores`` are, for axes.
        class_scores: float ``(classes,)``, higher is more suspicious.
        threshold: class scores above this count as a backdoor.
        sample_scores: float ``(n,)``, one for each training image, higher is more suspicious; ``None`` without any.
        flagged: bool ``(n,)``, the images it would remove.
        trigger_classes: int64 ``(k,)``, classes that a trigger was recovered for.
        patterns, masks: float ``(k, c, h, w)`` and ``(k, 1, h, w)`` in [0, 1]; x becomes (1 - mask) x + mask pattern.
    """

    backdoored: bool
    target: int | None
    score: str
    class_scores: Tensor
    threshold: float
    sample_scores: Tensor | None = None
    flagged: Tensor | None = None
    trigger_classes: Tensor | None = None
    patterns: Tensor | None = None
    masks: Tensor | None = None


@dataclass(frozen=True)
class Screening:
    """How suspicious inputs of a model are, one by one, at test time; higher is more suspicious.

    Attributes:
        scores: float ``(n,)``, of the inputs.
        trusted: float ``(k,)``, of trusted images that the method has not learned from: what its threshold is set by.
        limit: the score above which the paper stops an input; ``None`` where it names none.
    """

    scores: Tensor
    trusted: Tensor
    limit: float | None


@dataclass(frozen=True)
class RecoveredTrigger:
    """A trigger that a defense recovered from a model; of several searches the first is the one that is measured.

    Attributes:
        patterns: float ``(k, c, h, w)``, added to images in [0, 1].
        masks: float ``(k, 1, h, w)`` in [0, 1]; with them an image becomes (1 - mask) x + mask pattern.
    """

    patterns: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class ChannelScores:
    """What a defense thinks of each channel of a model.

    Attributes:
        score: what the values are, for axes.
        low_is_blamed: which end of the scale is taken for the backdoor.
        modules: names of the parts of the network whose output channels are scored.
        sizes: channels of each.
        values: float ``(channels,)`` in [0, 1], module after module.
    """

    score: str
    low_is_blamed: bool
    modules: tuple[str, ...]
    sizes: tuple[int, ...]
    values: Tensor


@dataclass(frozen=True)
class Flags:
    """Training images that a repair suspects, and what it did with each.

    Attributes:
        scores: float ``(n,)``, one for each training image, higher is more suspicious.
        rows: int64 ``(k,)``, the flagged ones, the highest score first.
        fate: int64 ``(k,)``, positions in :data:`FATES`.
        labels: int64 ``(k,)``, the label that each was trained with, -1 for one kept out.
    """

    scores: Tensor
    rows: Tensor
    fate: Tensor
    labels: Tensor


FATES = ("kept out", "returned", "relabeled")  # what becomes of a flagged image


@dataclass(frozen=True)
class Findings:
    """What a defense found out on its way to a repaired model; ``None`` for what it did not look for."""

    trigger: RecoveredTrigger | None = None
    channels: ChannelScores | None = None
    flags: Flags | None = None
