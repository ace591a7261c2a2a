"""A network that somebody brings: how right it is, what the detectors say, and what they say of clean networks."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab import registry
from poisonlab.check.calibration import ALARMS, Calibration, calibrated
from poisonlab.check.data import CHECK, CONTROLS
from poisonlab.check.evidence import title
from poisonlab.check.references import FIRST_SEED
from poisonlab.context import Context
from poisonlab.measure import metrics
from poisonlab.models.base import Classifier, channel_statistics, predict
from poisonlab.models.shared.fit_weights import fit
from poisonlab.models.shared.weights_file import WeightsError, read_weights
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.takeout import described, network_file
from poisonlab.spec.config import Config, DefensePart, ExperimentSpec, Preset, SpecError, make_spec
from poisonlab.spec.stages import Stage
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import new_network
from poisonlab.types import Detection, ImageSet, Splits

MOST_CLEAN = 1000

# mean and standard deviation of each channel, as people publish networks
PUBLISHED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
}
OF_FILE = "file"
OF_IMAGES = "images"
BEST = "best"
NORMALIZATIONS = (BEST, OF_IMAGES, *PUBLISHED)


@dataclass(frozen=True)
class Brought:
    """A network with somebody's weights.

    Attributes:
        normalization: which one it has: ``file``, ``images``, or a published one.
        by: how its layers were found, ``name`` or ``order``.
        accuracies: of each normalization that was tried, on the clean images.
    """

    network: Classifier
    normalization: str
    by: str
    accuracies: dict[str, float]


@dataclass(frozen=True)
class Finding:
    """What one detector says.

    Attributes:
        detector: its registered name. found: what it returned.
        value: the largest of its class scores. clean: the same of each clean network.
    """

    detector: str
    found: Detection
    value: float
    clean: tuple[float, ...]

    @property
    def suspect(self) -> int:
        """The class that it suspects most."""
        return int(self.found.class_scores.argmax())


@dataclass(frozen=True)
class ModelCheck:
    """All that is known of a network that somebody brought.

    Attributes:
        accuracy: on the test images. clean_accuracies: of the clean networks, on the same.
        calibration: its place among the clean networks. classes: their names.
    """

    brought: Brought
    accuracy: float
    clean_accuracies: tuple[float, ...]
    findings: tuple[Finding, ...]
    calibration: Calibration
    classes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One or two sentences, the rate of false alarms among them."""
        found = self.calibration
        if not found.can_accuse:
            least = f"{1 / (found.controls + 1):.0%}"
            return (
                f"No verdict: with {found.controls} clean networks a false alarm rate below {least} cannot be claimed; "
                f"{CONTROLS} are needed for {ALARMS:.0%}."
            )
        place = f"more than {found.exceeds} of {found.controls} clean networks of this kind"
        sure = f"A clean one would come as far in about {found.false_alarm_rate:.0%} of cases"
        if found.stands_out:
            return f"This network stands out: {place}, most of all to {title(found.most)}. {sure}."
        return f"This network does not stand out: {place}. {sure}. That is no proof that it is clean."


def detectors() -> list[str]:
    """Names of the defenses that judge a network by itself, without its training set."""
    return [name for name in registry.defense if registry.defense[name].judges_models]


def bring(
    spec: ExperimentSpec,
    weights: Mapping[str, Tensor],
    splits: Splits,
    ctx: Context,
    normalization: str = BEST,
) -> Brought:
    """The network of a spec with somebody's weights.

    Args:
        weights: as :func:`~poisonlab.models.shared.weights_file.read_weights` gives them.
        normalization: of :data:`NORMALIZATIONS`; ``best`` tries all and takes the one with which the network is right
            most often on the trusted images. Weights that state their own keep it.

    Raises:
        WeightsError: the weights do not fit, are for other classes, or the images have other channels.
    """
    network = new_network(spec, splits.reserve, ctx).eval().requires_grad_(False)
    found = fit(network, weights)
    if found.new_head:
        raise WeightsError(
            f"the network's last layer is not for the {len(splits.reserve.classes)} classes of these images"
        )
    network.load_state_dict(found.state, strict=False)
    if found.normalized:
        rate = right(network, splits.reserve)
        return Brought(network, OF_FILE, found.by, {OF_FILE: rate})
    tried = {name: _normalized(network, name, splits.reserve) for name in _asked(normalization)}
    rates = {name: right(one, splits.reserve) for name, one in tried.items()}
    best = max(rates, key=lambda name: rates[name])
    return Brought(tried[best], best, found.by, rates)


def check_model(
    spec: ExperimentSpec,
    brought: Brought,
    splits: Splits,
    ctx: Context,
    clean_networks: int = CONTROLS,
) -> ModelCheck:
    """Each detector on the network, and on clean networks that are trained here, each of these two a cached stage.

    Args:
        spec: dataset, victim and recipe of the clean networks; its attack and its defense are not looked at.
        clean_networks: from 1; at least 19 for a verdict.
    """
    counted = ctx.for_stage(CHECK)
    counted.progress(0, 1 + clean_networks, every=0)
    own = {name: _detected(spec, name, brought.network, splits, ctx) for name in detectors()}
    control: list[float] = []
    clean_scores: dict[str, list[float]] = {name: [] for name in own}
    for network in clean_controls(spec, splits, clean_networks, ctx):
        counted.progress(1 + len(control), 1 + clean_networks, every=0)
        control.append(right(network, splits.test))
        for name, scores in clean_scores.items():
            scores.append(float(_detected(spec, name, network, splits, ctx).class_scores.max()))
    findings = [
        Finding(name, found, float(found.class_scores.max()), tuple(clean_scores[name]))
        for name, found in own.items()
    ]
    suspect = {finding.detector: finding.value for finding in findings}
    clean_ones = [{f.detector: f.clean[number] for f in findings} for number in range(len(control))]
    calibration = calibrated(suspect, clean_ones, "trained here on the clean images", len(splits.train))
    return ModelCheck(
        brought,
        right(brought.network, splits.test),
        tuple(control),
        tuple(findings),
        calibration,
        splits.test.classes,
    )


def clean_controls(spec: ExperimentSpec, splits: Splits, count: int, ctx: Context) -> Iterator[Classifier]:
    """Networks trained on the clean training images, one a seed."""
    for seeded in clean_specs(spec, count):
        trainer = Trainer(seeded, splits, ctx.reseeded(seeded.seed))
        yield trainer.train(Stage.CONTROL, [splits.train]).member(0)


def clean_specs(spec: ExperimentSpec, count: int) -> list[ExperimentSpec]:
    """What the clean networks are trained by, one a seed."""
    return [spec.model_copy(update={"seed": FIRST_SEED + number, "weights": ""}) for number in range(count)]


def repaired(spec: ExperimentSpec, brought: Brought, splits: Splits, ctx: Context) -> Classifier:
    """The network after the spec's defense, made with the trusted images.

    Raises:
        SpecError: the defense does not repair networks. ValueError: it cannot do with this one.
    """
    refuse_no_repair(spec)
    defender = Defender(spec, splits.reserve, ctx)
    defender.method.check_network(brought.network, splits.reserve.shape)
    done = defender.method.repair(brought.network, defender.clean(), ctx)
    return done.model(brought.network)


def refuse_no_repair(spec: ExperimentSpec) -> None:
    """Raises:
    SpecError: the defense does not repair a network by itself; names those that do.
    """
    able = [name for name in registry.defense if registry.defense[name].overrides("repair")]
    if spec.defense.name not in able:
        raise SpecError(
            f"defense {spec.defense.name!r} does not repair a network by itself; choose one of: {', '.join(able)}"
        )


def as_file(network: Classifier, spec: ExperimentSpec, images: ImageSet) -> bytes:
    """A network to take away; :func:`~poisonlab.pipeline.takeout.read_network` builds it again.

    Args:
        images: of the shape and of the classes that it is for.
    """
    return network_file(network, described(network, spec.victim, images))


def spec_of(
    victim: str,
    *,
    images: str | Path | None = None,
    dataset: str | None = None,
    size: int = 32,
    preset: Preset = "quick",
    repair: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ExperimentSpec:
    """What a check goes by: clean images, the kind of network, the recipe of the clean ones, a defense to repair with.

    Args:
        images: a folder of clean images with a folder for each class. dataset: a registered one instead.
        size: side in pixels of the pictures of a folder.

    Raises:
        SpecError: neither or both kinds of images, or a value that cannot be. UnknownName: a method that is not
            registered.
    """
    if (images is None) == (dataset is None):
        raise SpecError("give clean images: either a folder or a dataset")
    values = dict(overrides or {})
    if images is not None:
        values |= {"dataset.path": str(images), "dataset.size": size}
    return make_spec(
        dataset or "folder", "none", repair or "none", preset=preset, victim=victim, overrides=values
    )


def check_file(
    spec: ExperimentSpec, weights: Path, ctx: Context, normalization: str, clean_networks: int
) -> tuple[ModelCheck, Splits]:
    """The check of a file of weights, and the images that it was made with.

    Raises:
        WeightsError: the file cannot be read or does not fit. SpecError: no clean network, no trusted image, or a
            defense that cannot do with this network. DataError: no images.
    """
    if not 1 <= clean_networks <= MOST_CLEAN:
        raise SpecError(f"there can be from 1 to {MOST_CLEAN} clean networks, not {clean_networks}")
    if spec.clean_images < 1:
        raise SpecError("the detectors need trusted images: clean_images must be at least 1")
    _asked(normalization)  # refused before anything is read
    splits = opened(spec, ctx)
    brought = bring(spec, read_weights(weights), splits, ctx, normalization)
    try:  # before the clean networks are trained, which takes hours
        spec.defense.build().check_network(brought.network, splits.reserve.shape)
    except ValueError as error:
        raise SpecError(f"--repair {spec.defense.name}: {error}") from None
    return check_model(spec, brought, splits, ctx, clean_networks), splits


def opened(spec: ExperimentSpec, ctx: Context) -> Splits:
    """The images: ``reserve`` are the trusted ones, ``train`` what clean networks are trained on."""
    return load(spec, ctx.device)


def _detected(
    spec: ExperimentSpec, detector: str, network: Classifier, splits: Splits, ctx: Context
) -> Detection:
    """A detector's verdict with the values that it has in the spec's preset; the training set stays unknown to it."""
    part = DefensePart(name=detector, params=values_of(detector, spec))
    defender = Defender(spec.model_copy(update={"defense": part}), splits.reserve, ctx)
    found = defender.detect(Stage.DETECT, network, defender.clean())
    assert found is not None  # a defense that judges models returns a verdict
    return found


def values_of(detector: str, spec: ExperimentSpec) -> Config:
    """The parameters of a detector under the preset of a spec."""
    config: Config = registry.defense[detector].Config.for_preset(spec.preset, spec.dataset.name)
    return config


def _asked(normalization: str) -> tuple[str, ...]:
    if normalization not in NORMALIZATIONS:
        raise WeightsError(f"normalization {normalization[:40]!r} is not one of {', '.join(NORMALIZATIONS)}")
    return (OF_IMAGES, *PUBLISHED) if normalization == BEST else (normalization,)


def _normalized(network: Classifier, name: str, images: ImageSet) -> Classifier:
    """A copy with another first layer."""
    mean, std = network.normalize.mean, network.normalize.std
    if name == OF_IMAGES:
        new_mean, new_std = channel_statistics(images.x)
    else:
        new_mean, new_std = (_each_channel(part, mean.numel(), name) for part in PUBLISHED[name])
    copied = copy.deepcopy(network)
    copied.normalize.mean = new_mean.view_as(mean).to(mean)
    copied.normalize.std = new_std.view_as(std).to(std)
    return copied


def _each_channel(values: tuple[float, ...], channels: int, name: str) -> Tensor:
    """Raises:
    WeightsError: the published values are of another number of channels.
    """
    if channels == 1:
        return torch.tensor([sum(values) / len(values)])
    if len(values) not in (1, channels):
        raise WeightsError(
            f"normalization {name!r} is for {len(values)} channels, the images have {channels}"
        )
    return torch.tensor(values).expand(channels)


def right(network: Classifier, images: ImageSet) -> float:
    """Share of images that a network is right about."""
    return metrics.share(predict(network, images.x) == images.y) or 0.0
