"""A submission measured again from its weights, number by number, and what cannot be had from weights.

The dataset is this machine's, the threat comes out of the attack's own stage here, the networks are the submitted ones.
On the same type of device, precision and version of torch the numbers must be equal; elsewhere a rounding may change
the answer to an image here and there, which the tolerance allows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from poisonlab import machine
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.events import Event
from poisonlab.measure import catalogue
from poisonlab.pipeline.evaluate import measure_models
from poisonlab.pipeline.experiment import load
from poisonlab.pipeline.poison import craft
from poisonlab.pipeline.submission import Submitted
from poisonlab.records.submission import SubmissionError
from poisonlab.spec.stages import Stage
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims
from poisonlab.types import Corruption, Splits, Threat

ROUNDING = 1e-6  # of a mean of float32 probabilities
TOLERANCE = 0.005  # on another type of device, precision or version of torch
IMAGES = 2  # or so many test images, where these are more
LARGEST = 0.02  # but no more than this: of twenty test images two would be ten points

State = Literal["equal", "within tolerance", "differs", "not claimed", "not verified"]


@dataclass(frozen=True)
class Number:
    """A metric: what is claimed, and what was measured here (``None`` where it is undefined, or not measured)."""

    name: str
    claimed: float | None
    measured: float | None
    state: State


@dataclass(frozen=True)
class Verdict:
    """What came of a submission.

    Attributes:
        numbers: every claimed metric, and those that the weights give and nobody claims: one that is left out may be
            the one that tells against the run.
        tolerance: by which a number may differ; 0 where they must be equal.
        device: on which it was measured here.
        collapsed: whether the same models collapsed.
        reason: why the success of the attack is not among what was measured; empty where it is.
    """

    numbers: tuple[Number, ...]
    tolerance: float
    device: str
    collapsed: bool
    reason: str
    headline: str

    @property
    def verified(self) -> bool:
        """Whether every number that weights give is as claimed, the success of the attack among them."""
        good = {n.name for n in self.numbers if n.state in ("equal", "within tolerance")}
        bad = any(n.state in ("differs", "not claimed") for n in self.numbers)
        return self.collapsed and self.headline in good and not bad


def verify(
    claim: Submitted,
    cache: StageCache | None,
    device: str = "auto",
    send: Callable[[Event], None] = lambda event: None,
) -> Verdict:
    """Measure what is claimed.

    Args:
        cache: of finished stages: a poison that was made here before is not made again.
        device: ``auto`` for the type of the claim, where there is one.

    Raises:
        SubmissionError: another dataset than this machine's, or networks for other images or trials.
        DataError: the dataset cannot be loaded. Cancelled, and whatever the attack raises.
    """
    spec = claim.spec
    chosen = _device(claim.record.device, device)
    machine.set_threads()
    machine.settle_arithmetic(chosen)
    ctx = Context(
        device=chosen, seed=spec.seed, cache=cache, send=send, precision=getattr(torch, spec.precision)
    )
    splits = load(spec, chosen)
    _check_data(claim, splits)
    threat, trials = _threat(claim, splits, ctx)
    models = _on(chosen, claim, trials)
    measured, collapsed = _measured(splits, threat, models, ctx)
    exact = _same_arithmetic(claim.record.device, claim.record.torch, chosen)
    tolerance = 0.0 if exact else min(LARGEST, max(TOLERANCE, IMAGES / len(splits.test)))
    claimed = claim.record.metrics
    return Verdict(
        numbers=tuple(_compared(name, claimed, measured, tolerance) for name in {**claimed, **measured}),
        tolerance=tolerance,
        device=machine.device_name(chosen),
        collapsed=set(claim.record.collapsed or ()) == set(collapsed),
        reason="" if threat else "the attacker learns the trigger while the victim is trained",
        headline=catalogue.headline(claim.record.threat).name,
    )


def _device(claimed: str, asked: str) -> torch.device:
    return machine.resolve_device("cpu" if asked == "auto" and claimed == "cpu" else asked)


def _same_arithmetic(claimed: str, version: str, device: torch.device) -> bool:
    """Whether equal numbers may be asked for; the precision is the spec's on both sides."""
    release = torch.__version__.split(".")[:2]
    return claimed.partition(" ")[0] == device.type and version.split(".")[:2] == release


def _check_data(claim: Submitted, splits: Splits) -> None:
    name = claim.spec.dataset.name
    if claim.record.data != splits.data:
        said = claim.record.data or "none"
        raise SubmissionError(
            f"run.json was measured on another dataset {name} than this machine has: fingerprint {said}, here "
            f"{splits.data}"
        )
    found = (*splits.test.shape, len(splits.test.classes))
    if (*claim.settings.image, claim.settings.classes) != found:
        raise SubmissionError(f"settings.json speaks of other images than those of {name}: {found} here")


def _threat(claim: Submitted, splits: Splits, ctx: Context) -> tuple[Threat | None, int]:
    """What the attack aims at, and in how many trials; ``None`` where it learns that from the victim's training."""
    spec = claim.spec
    attack = spec.attack.build()
    poison = craft(attack, spec, splits, Trainer(spec, splits, ctx), ctx)
    if attack.training_hook(poison, ctx) is not None:
        return None, poison.trials
    return attack.threat(poison, len(splits.train.classes)), poison.trials


def _on(device: torch.device, claim: Submitted, trials: int) -> dict[str, Victims]:
    """The victims on a device, by their suffix; one object for two that are the same."""
    moved: dict[int, Victims] = {}
    for model, victims in claim.victims.items():
        if victims.trials != trials:
            raise SubmissionError(
                f"settings.json: the {model} victims are those of {victims.trials} trials; the attack has {trials}"
            )
        if id(victims) not in moved:
            varying = {name: value.to(device) for name, value in victims.varying.items()}
            moved[id(victims)] = replace(victims, network=victims.network.to(device), varying=varying)
    suffixes = {"control": "_control", "undefended": "_undefended", "defended": ""}
    return {suffixes[model]: moved[id(victims)] for model, victims in claim.victims.items()}


def _measured(
    splits: Splits, threat: Threat | None, models: dict[str, Victims], ctx: Context
) -> tuple[dict[str, float | None], tuple[Any, ...]]:
    inner = replace(ctx, cache=None).for_stage(Stage.EVALUATE)
    with inner.autocast():
        found, collapsed = measure_models(splits.test, threat or Corruption(), models, None, inner)
    if threat is None:  # no trigger to show: accuracies alone are those of the claim
        found = {name: value for name, value in found.items() if name.startswith("clean_accuracy")}
    return found, collapsed


def _compared(
    name: str, claims: dict[str, float | None], measured: dict[str, float | None], tolerance: float
) -> Number:
    claimed = claims.get(name)
    if name not in measured:
        return Number(name, claimed, None, "not verified")
    value = measured[name]
    state: State = "differs"
    if name not in claims:
        state = "not claimed"
    elif claimed is None or value is None:
        state = "equal" if claimed is value else "differs"
    elif abs(claimed - value) <= ROUNDING:
        state = "equal"
    elif abs(claimed - value) <= tolerance:
        state = "within tolerance"
    return Number(name, claimed, value, state)
