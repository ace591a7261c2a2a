"""Typed things to look at. A page shows any method that emits them; none of them is ever pickled.

An artifact is a frozen dataclass whose tensor fields go to one safetensors file; the other
fields (numbers, strings, lists of them) travel as JSON in that file's header.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from poisonlab.records import migrate, shapes

KINDS: dict[str, type] = {}


def _kind(cls: type) -> type:
    KINDS[cls.__name__] = cls
    return cls


@_kind
@dataclass(frozen=True)
class PoisonGallery:
    """Images before and after poisoning, side by side: uint8 ``(n, c, h, w)`` each.

    ``true_labels`` and ``given_labels`` are int64 ``(n,)``; ``classes`` are their names.
    """

    clean: Tensor
    poisoned: Tensor
    true_labels: Tensor
    given_labels: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class TargetGallery:
    """The images a targeted attack wants misread, with what each model says of them.

    ``images`` uint8 ``(trials, c, h, w)``; labels and predictions int64 ``(trials,)``;
    ``adversarial_probability`` float32 ``(3, trials)``, what control, undefended and defended model give the
    adversarial label, empty in records that do not say.
    """

    images: Tensor
    true_labels: Tensor
    adversarial_labels: Tensor
    predicted_control: Tensor
    predicted_undefended: Tensor
    predicted_defended: Tensor
    classes: list[str]
    adversarial_probability: Tensor = field(default_factory=lambda: torch.zeros(0))


@_kind
@dataclass(frozen=True)
class PurificationTrace:
    """Training images as the attacker left them and as the defense returned them.

    ``original``, ``before``, ``after`` are uint8 ``(n, c, h, w)``; ``poisoned`` is bool ``(n,)``:
    for the other images ``original`` equals ``before``. ``surviving`` is float32 ``(n,)``:
    ||Psi(x+d) - Psi(x)|| / ||d||, both purified with the same noise, NaN where d is 0; empty in records that do not say
    and of a defense that does not treat each image by itself.
    """

    original: Tensor
    before: Tensor
    after: Tensor
    poisoned: Tensor
    surviving: Tensor = field(default_factory=lambda: torch.zeros(0))


@_kind
@dataclass(frozen=True)
class LangevinTrace:
    """Walks that purify, recorded at some of their steps, from clean images and from poisoned versions of them.

    Attributes:
        steps: int64 ``(s,)``, the recorded steps, the first being 0.
        clean_images, poisoned_images: uint8 ``(s, n, c, h, w)``.
        clean_energy, poisoned_energy: float32 ``(s, n)``; NaN of a defense without an energy model.
        from_poisoned: ``(s, n)``, L2 distance of the poisoned chain to its start, ||(x+d) - Psi||.
        from_clean: ``(s, n)``, L2 distance of the poisoned chain to the clean image, ||x - Psi||.
            Distances are in units of pixel intensities in [0, 1].
        used: steps after which the defense stopped; -1 in records that do not say.
        moments: what was done up to each recorded step; empty in records that do not say.
        same_noise: whether both walks of an image had the same noise, so that only the poison tells them apart.
    """

    steps: Tensor
    clean_images: Tensor
    poisoned_images: Tensor
    clean_energy: Tensor
    poisoned_energy: Tensor
    from_poisoned: Tensor
    from_clean: Tensor
    used: int = -1
    moments: list[str] = field(default_factory=list)
    same_noise: bool = False


@_kind
@dataclass(frozen=True)
class EnergyHistogram:
    """Energies of training images, float32 ``(n,)`` each: clean, poisoned, and purified poisoned ones."""

    clean: Tensor
    poisoned: Tensor
    purified: Tensor


@_kind
@dataclass(frozen=True)
class TriggerTruth:
    """The real trigger on test images, and what the victim says of them before and after the defense.

    ``clean`` and ``triggered`` are uint8 ``(n, c, h, w)``; ``target_class`` -1: all-to-all. ``true_labels``,
    ``clean_undefended``, ``triggered_undefended`` and ``triggered_defended``, what a model says of which images, are
    int64 ``(n,)``, empty in records that do not say.
    """

    clean: Tensor
    triggered: Tensor
    target_class: int
    classes: list[str]
    true_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    clean_undefended: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    triggered_undefended: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    triggered_defended: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))


@_kind
@dataclass(frozen=True)
class TriggerReconstruction:
    """A trigger recovered by a defense, one row per round.

    Attributes:
        patterns: float32 ``(rounds, c, h, w)``, added to images in [0, 1].
        class_histogram: int64 ``(rounds, classes)``, predictions for the clean images under the pattern.
        l1_norm: float32 ``(rounds,)``, of the mask where there is one.
        masks: float32 ``(rounds, 1, h, w)`` in [0, 1]: with them an image becomes (1 - mask) x + mask pattern.
    """

    patterns: Tensor
    class_histogram: Tensor
    l1_norm: Tensor
    classes: list[str]
    masks: Tensor | None = None


@_kind
@dataclass(frozen=True)
class ClassTriggers:
    """The smallest trigger found for each of k classes: (1 - mask) x + mask pattern.

    ``patterns`` float32 ``(k, c, h, w)`` and ``masks`` float32 ``(k, 1, h, w)`` in [0, 1]; ``labels`` int64 ``(k,)``.
    """

    patterns: Tensor
    masks: Tensor
    labels: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class ClassAnomaly:
    """How much a detector suspects each class, in the victim and in a control trained without poison.

    ``victim`` and ``control`` are float32 ``(classes,)``; scores above ``threshold`` speak for a backdoor;
    ``None`` where it is undefined. ``named`` and ``named_control`` are the classes it named, -1 for none;
    ``target_class`` is the true one, -1: all-to-all.
    """

    victim: Tensor
    control: Tensor
    threshold: float | None
    named: int
    named_control: int
    target_class: int
    score: str
    classes: list[str]


@_kind
@dataclass(frozen=True)
class SampleSuspicion:
    """A detector's scores of training images, float32 ``(n,)`` each; higher is more suspicious.

    ``clean`` and ``poisoned`` are the victim's images, ``control`` those of a training without poison. The shares are
    of images flagged in each.
    """

    clean: Tensor
    poisoned: Tensor
    control: Tensor
    flagged_clean: float
    flagged_poisoned: float
    flagged_control: float


@_kind
@dataclass(frozen=True)
class ScreeningReview:
    """A screening's scores of test inputs, float32 ``(n,)`` each; higher is more suspicious.

    Attributes:
        untouched, triggered: of the victim's inputs; ``control_untouched``, ``control_triggered``: of the same inputs
            of a model without a backdoor.
        threshold: the defender's, above which an input is stopped; ``None`` without trusted images.
        limit: the paper's, or ``None``.
        images: uint8 ``(m, c, h, w)``, some inputs; ``score`` float32, ``has_trigger``, ``stopped`` bool, ``true`` and
            ``answer`` int64, all ``(m,)``.
    """

    untouched: Tensor
    triggered: Tensor
    control_untouched: Tensor
    control_triggered: Tensor
    threshold: float | None
    limit: float | None
    images: Tensor
    score: Tensor
    has_trigger: Tensor
    stopped: Tensor
    true: Tensor
    answer: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class FlagReview:
    """What a repair flagged, beside the truth that only the experimenter knows.

    Attributes:
        clean, bad: float32 scores of the clean and of the corrupted or poisoned training images.
        precision, recall: float32 ``(s,)``, of flagging the ``flagged`` highest, int64 ``(s,)``.
        chosen: how many the repair flagged.
        counts: int64 ``(3, 2)``, flagged images by fate, clean and bad ones.
        images: uint8 ``(m, c, h, w)``, a sample of the flagged images evenly along their ranks ``rank``, the highest
            score being 1.
        score: float32 ``(m,)``; ``fate`` as in :class:`~poisonlab.types.Flags`; ``given``, ``true`` and ``used``:
            labels, int64 ``(m,)``, with ``used`` -1 for an image kept out; ``is_bad`` bool ``(m,)``.
    """

    clean: Tensor
    bad: Tensor
    flagged: Tensor
    precision: Tensor
    recall: Tensor
    chosen: int
    counts: Tensor
    images: Tensor
    rank: Tensor
    score: Tensor
    fate: Tensor
    given: Tensor
    true: Tensor
    used: Tensor
    is_bad: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class ConfusionChange:
    """Test images by true class (rows) and answer (columns): int64 ``(classes, classes)`` before and after a repair."""

    before: Tensor
    after: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class NeuronScores:
    """A score in [0, 1] for each weight or neuron, summarized by layer.

    ``histogram`` is int64 ``(layers, bins)`` over equal bins of [0, 1]; ``score`` says what it is, ``low_is_blamed``
    which end the defense takes for the backdoor. Of a defense that scores whole channels, ``values`` is float32
    ``(channels,)``, layer after layer, and ``modules`` names the part of the network behind each layer.
    """

    layers: list[str]
    histogram: Tensor
    score: str
    low_is_blamed: bool = True
    values: Tensor = field(default_factory=lambda: torch.zeros(0))
    modules: list[str] = field(default_factory=list)


@_kind
@dataclass(frozen=True)
class ActivationDrive:
    """What the trigger does to each channel of the victim, beside what the defense thinks of that channel.

    Attributes:
        layer: int64 ``(channels,)``, positions in ``layers``.
        score: float32 ``(channels,)`` in [0, 1]; ``score_name`` and ``low_is_blamed`` as in :class:`NeuronScores`.
        drive: float32 ``(channels,)``, mean activation on triggered test images minus that on the same clean ones.
        poison_change: float32 ``(channels,)`` in [0, 1], weight change in unlearning triggered images, relative to the
            largest; empty where the defense does not unlearn to score.
    """

    layers: list[str]
    layer: Tensor
    score: Tensor
    drive: Tensor
    poison_change: Tensor
    score_name: str
    low_is_blamed: bool


@_kind
@dataclass(frozen=True)
class RepairTrace:
    """How a model answered at moments of its repair: one row a look, in the order of the looks.

    Attributes:
        phases: what was done to the model, in order, such as unlearning and recovering.
        phase: int64 ``(n,)``, the position of each look's phase.
        step: int64 ``(n,)``, how far the phase was; 0 is before it.
        accuracy, asr: float32 ``(n,)`` on the first ``images`` test images, clean and triggered ones; ``asr`` is NaN
            where there is no backdoor.
    """

    phases: list[str]
    phase: Tensor
    step: Tensor
    accuracy: Tensor
    asr: Tensor
    images: int


@_kind
@dataclass(frozen=True)
class PredictionHistogram:
    """Predictions for the defender's clean images before and after unlearning: int64 ``(classes,)`` each."""

    before: Tensor
    after: Tensor
    classes: list[str]


@_kind
@dataclass(frozen=True)
class SettingsCurve:
    """What each setting of a defense's one free setting gives: float32 ``(s,)`` each, from weak to strong.

    ``accuracy`` and ``asr`` are measured on the test set, ``clean_score`` on the defender's own images. ``chosen``
    is the position that the defense used, ``oracle`` of the one that knows the test set; ``setting_name`` names them.
    ``stand_in`` is the success of the defender's stand-in for the trigger; empty where there is none. ``by_rule``:
    clean data chose, not a parameter.
    """

    settings: Tensor
    accuracy: Tensor
    asr: Tensor
    clean_score: Tensor
    chosen: int
    oracle: int
    setting_name: str
    stand_in: Tensor = field(default_factory=lambda: torch.zeros(0))
    by_rule: bool = True


@_kind
@dataclass(frozen=True)
class Crafting:
    """How poisons were crafted through unrolled training, and which way they lead the weights of a network.

    Attributes:
        steps: int64 ``(s,)``, crafting steps; ``unrolled`` and ``plain`` are float32 ``(s,)``, the adversarial loss
            after and before the unrolled steps, averaged over surrogates, batches and trials.
        tried: int64 ``(r,)``, crafting steps whose poisons of the first trial a network was trained on, 0 being the
            random start; ``tried_loss`` and ``tried_probability`` float32 ``(r,)``, what it then said of the target.
        places: float32 ``(2, epochs + 1, 2)``, checkpoints without and with the final poisons in the plane of their
            largest variance; ``variance`` float32 ``(2,)``, the shares along its axes.
        path_loss, path_probability: float32 ``(2, epochs + 1)``, adversarial loss and probability of the wished class.
        base, recolored, poisoned: uint8 ``(n, c, h, w)``; without color shifts the second is the first.
        changes: int64 ``(bins,)``, offsets |delta| / eps of all poisons in equal bins of [0, 1].
        grids: float32 ``(n, 3, r, r, r)``, shifts of Y, U and V; empty without.
        eps: in 1/255. color: bound of the shifts.
    """

    steps: Tensor
    unrolled: Tensor
    plain: Tensor
    tried: Tensor
    tried_loss: Tensor
    tried_probability: Tensor
    places: Tensor
    variance: Tensor
    path_loss: Tensor
    path_probability: Tensor
    base: Tensor
    recolored: Tensor
    poisoned: Tensor
    changes: Tensor
    grids: Tensor
    eps: float
    color: float


@_kind
@dataclass(frozen=True)
class Curve:
    """Series over a common axis: float32 ``x`` ``(n,)`` and ``y`` ``(series, n)``."""

    x: Tensor
    y: Tensor
    series: list[str]
    x_label: str
    y_label: str


@_kind
@dataclass(frozen=True)
class ModelHealth:
    """How well a generative model was when it was used: a few named numbers and a sentence."""

    values: dict[str, float]
    verdict: str


class ArtifactError(ValueError):
    """A file that is not an artifact of this program."""


def save(artifact: Any, path: Path) -> None:
    """Write an artifact to ``path`` (safetensors)."""
    path.write_bytes(to_bytes(artifact))


def to_bytes(artifact: Any) -> bytes:
    """An artifact as a safetensors file, for :func:`parse`. A plain number that is not finite becomes undefined."""
    fields = {f.name: getattr(artifact, f.name) for f in dataclasses.fields(artifact)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in fields.items() if isinstance(v, Tensor)}
    plain = {k: _without_nan(v) for k, v in fields.items() if not isinstance(v, Tensor)}
    header = json.dumps({"schema": migrate.SCHEMA, "kind": type(artifact).__name__, "fields": plain})
    if not tensors:  # safetensors files hold at least one tensor
        tensors = {"_": torch.zeros(1)}
    return save_bytes(tensors, metadata={migrate.HEADER: header})


def load(path: Path) -> Any:
    """Read an artifact back, on the CPU.

    Raises:
        ArtifactError: see :func:`parse`. OSError: the file cannot be read.
    """
    return parse(path.read_bytes(), path.name)


def parse(raw: bytes, name: str) -> Any:
    """The artifact that a file's bytes hold, of today's schema, on the CPU.

    Args:
        name: of the file, for messages.

    Raises:
        ArtifactError: not a safetensors file, no artifact inside, or fields that do not fit its kind.
    """
    try:
        size = int.from_bytes(raw[:8], "little")
        metadata = json.loads(raw[8 : 8 + size])["__metadata__"]
        header = json.loads(
            metadata[migrate.HEADER], parse_constant=lambda _: None
        )  # NaN of an older file: undefined
        tensors = {k: v for k, v in load_bytes(raw).items() if k != "_"}
        kind, fields = migrate.migrate_artifact(
            header["kind"], tensors | header["fields"], migrate.schema_of(header)
        )
        artifact = KINDS[kind](**fields)
        shapes.check(artifact)
    except shapes.ShapeError as error:
        raise ArtifactError(f"{name} does not hold what a {kind} must: {error}") from None
    except Exception as error:  # whatever bytes from anybody make the parsers raise
        raise ArtifactError(f"{name} is not an artifact of this program: {str(error)[:200]}") from error
    return artifact


def _without_nan(value: Any) -> Any:
    """A plain value as JSON can hold it: ``None`` in place of a number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value
