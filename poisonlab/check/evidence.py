"""What each registered detector says of a set, and one number by which sets are compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab import registry
from poisonlab.check.recipe import Recipe
from poisonlab.context import Context
from poisonlab.defenses.shared.sample_scores import FEWEST, median_and_spread
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.experiment import load
from poisonlab.spec.config import make_spec
from poisonlab.spec.stages import Stage
from poisonlab.training.victims import train_from_scratch
from poisonlab.types import Detection, ImageSet

ENERGY = "puregen_ebm"
DETECTORS = (
    "spectral_signatures",
    "activation_clustering",
    "confident_learning",
    "strip",
    "ewc_influence",
)
TAIL = 0.9  # quantile of a class's energies that is set against its median
LEAST_SPREAD = 0.1  # of the median, of the scores of classes


@dataclass(frozen=True)
class Evidence:
    """What one detector says.

    Attributes:
        detector: its registered name.
        scores: float ``(n,)``, one for each image, higher is more suspicious.
        target: the class that it names, or ``None``.
        statistic: one number for the whole set, higher is more suspicious; comparable between sets of one kind alone.
    """

    detector: str
    scores: Tensor
    target: int | None
    statistic: float

    @property
    def title(self) -> str:
        return title(self.detector)


@dataclass(frozen=True)
class Examined:
    """A set as all detectors see it.

    Attributes:
        evidence: of each detector that could run.
        left_out: detector -> one line that says why it could not.
    """

    evidence: tuple[Evidence, ...]
    left_out: dict[str, str]

    def statistics(self) -> dict[str, float]:
        return {found.detector: found.statistic for found in self.evidence}


def title(detector: str) -> str:
    """A detector's name for people."""
    return "PureGen energy" if detector == ENERGY else str(registry.defense[detector].card.title)


def examine(data: ImageSet, trusted: ImageSet | None, recipe: Recipe, seed: int, ctx: Context) -> Examined:
    """Train a victim on a set, and ask every detector.

    Args:
        trusted: clean images, for detectors that cannot do without; ``None`` where there are none.

    Raises:
        Cancelled: ``ctx`` was asked to stop; finished stages stay in the cache.
        DataError, ValueError, Diverged: with a message a person can act on.
    """
    precision = getattr(torch, recipe.spec("none", seed).precision)
    own = Context(ctx.device, seed, ctx.send, ctx.cache, precision)
    victim = train_from_scratch(Stage.VICTIM, recipe.spec("none", seed), [data], own).member(0)
    evidence = []
    left_out = {}
    for name in DETECTORS:
        needs = registry.defense[name].needs_clean_images
        if needs and trusted is None:
            left_out[name] = "needs trusted clean images, and none were given"
            continue
        granted = trusted if needs and trusted is not None else data[:0]
        defender = Defender(recipe.spec(name, seed, len(granted)), granted, own)
        found = defender.detect(Stage.DETECT, victim, data)
        assert found is not None and found.sample_scores is not None  # each of DETECTORS scores images
        statistic = STATISTICS[name](found, data)
        evidence.append(Evidence(name, found.sample_scores.cpu(), found.target, statistic))
    scores = energies(data, recipe, own)
    if scores is None:
        left_out[ENERGY] = "needs an energy model of this kind of image; none is shipped for it"
    else:
        evidence.append(Evidence(ENERGY, scores, None, energy_tail(scores, data)))
    return Examined(tuple(evidence), left_out)


def energies(data: ImageSet, recipe: Recipe, ctx: Context) -> Tensor | None:
    """Energy of each image, float ``(n,)``; ``None`` where the package brings no energy model for its kind."""
    if recipe.kind not in SHIPPED:
        return None
    spec = make_spec(recipe.kind, "none", ENERGY, preset="quick")
    public = load(spec, ctx.device).public
    if public.shape != data.shape:
        return None
    method = spec.defense.build()
    method.prepare(public, ctx)
    found: Tensor = method.energy(data.x)
    return found.cpu()


SHIPPED = ("digits", "cifar10")  # whose energy models come with the package, under the preset quick


# -- one number a set -----------------------------------------------------------------------------------


def outlying(class_scores: Tensor) -> float:
    """How many robust deviations the most suspicious class lies above the median one."""
    median, spread = median_and_spread(class_scores.double().cpu(), 1e-6)
    spread = torch.maximum(spread, LEAST_SPREAD * median.abs())
    return float((class_scores.double().cpu().max() - median) / spread)


def _outlying_class(found: Detection, data: ImageSet) -> float:
    return outlying(found.class_scores)


def _largest(found: Detection, data: ImageSet) -> float:
    return float(found.class_scores.max())


def _flagged(found: Detection, data: ImageSet) -> float:
    assert found.flagged is not None
    return found.flagged.double().mean().item()


STATISTICS: dict[str, Callable[[Detection, ImageSet], float]] = {
    "spectral_signatures": _outlying_class,  # largest singular value against the other classes'
    "activation_clustering": _largest,  # silhouette of the best small cluster
    "confident_learning": _flagged,  # share of the images whose label is doubted
    "strip": _largest,  # largest share of a class that is flagged
    "ewc_influence": _largest,  # anomaly index of a class's share of flagged images
}


def energy_tail(scores: Tensor, data: ImageSet) -> float:
    """The longest upper tail of a class's energies: (90 % quantile - median) / (median - 10 % quantile)."""
    longest = 0.0
    for label in range(len(data.classes)):
        own = scores[data.y.cpu() == label].double()
        if len(own) >= FEWEST:
            low, middle, high = own.quantile(
                torch.tensor([1 - TAIL, 0.5, TAIL], dtype=torch.float64)
            ).tolist()
            ratio = (high - middle) / max(middle - low, 1e-9)
            longest = max(longest, ratio if math.isfinite(ratio) else 0.0)
    return longest
