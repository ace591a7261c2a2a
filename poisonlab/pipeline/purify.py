"""Purification of training sets, what it does to images, recorded for the pages, and how much of a poison it leaves."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.events import Event, Metric
from poisonlab.measure.galleries import SHOWN, examples
from poisonlab.pipeline.defend import Defender
from poisonlab.records import artifacts
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.types import Backdoor, ImageSet, Poison, Threat, joined

UNTOUCHED = 12  # images without poison that are shown before and after
ENERGIES = 2000  # images of an energy histogram
PIXELS = 3 * 32 * 32  # of larger images fewer chains are recorded: a record stays below 4 MB
FEWEST = 4


def public_images(public: ImageSet, spec: ExperimentSpec, threat: Threat, ctx: Context) -> ImageSet:
    """What generative models learn from; in a stress test the attacker's trigger is in some of it."""
    share = spec.public_poison
    if not share:
        return public
    if not isinstance(threat, Backdoor):
        raise ValueError(f"public_poison={share} needs a trigger; attack {spec.attack.name!r} has none")
    order = torch.randperm(len(public), generator=ctx.generator("public poison"), device=public.x.device)
    rows = order[: round(share * len(public))]
    x = public.x.clone()
    x[rows] = threat.trigger(x[rows])
    return dataclasses.replace(public, x=x, split=f"{public.split}, {share:.0%} of them with the trigger")


@dataclass(frozen=True)
class Purified:
    """Training sets as the defense left them.

    Attributes:
        sets: one for each trial.
        surviving: float32 ``(k,)``, the share of its perturbation that is left in each poison of a sample; NaN where
            there was none, empty where it is not measured.
    """

    sets: Sequence[ImageSet]
    surviving: Tensor


@dataclass(frozen=True)
class _Sample:
    """Training images that are looked at before and after: poisoned ones first, then some that nobody touched.

    Attributes:
        clean: the poisoned images before they were poisoned.
        poisoned: uint8, shaped like them.
        plain: uint8, the untouched ones.
        after: uint8, all of them as the defense returned them.
    """

    clean: ImageSet
    poisoned: Tensor
    plain: Tensor
    after: Tensor

    @classmethod
    def of(cls, train: ImageSet, poison: Poison, purified: Tensor) -> "_Sample":
        """
        Args:
            purified: images of the base set followed by those of the poisons of all trials.
        """
        trial, position = examples(poison, SHOWN)
        rows = poison.index[trial, position]
        place = len(train) + trial.to(rows.device) * poison.budget + position.to(rows.device)
        untouched = torch.ones(len(train), dtype=torch.bool, device=rows.device)
        untouched[poison.index.flatten()] = False
        plain = untouched.nonzero().squeeze(1)[:UNTOUCHED]
        after = torch.cat([purified[place], purified[plain]])
        return cls(train[rows], poison.images[trial, position], train.x[plain], after)


def purify_sets(
    train: ImageSet, poison: Poison, poisoned: Sequence[ImageSet], defender: Defender, ctx: Context
) -> Purified:
    """Each trial's training set as the defense leaves it.

    Args:
        train: before poisoning. poisoned: the set of each trial.
    """
    if defender.method.per_image:  # the base once for all attacks on it, then only what the trials changed
        base = defender.purify(Stage.PURIFY, train)
        changed = ImageSet(poison.images.flatten(0, 1), poison.labels.flatten(), train.classes)
        if poison.budget:
            changed = defender.purify(Stage.PURIFY_POISONS, changed)
        surviving = examine(train, poison, joined(base, changed).x, defender.method, ctx)
        sets = dataclasses.replace(poison, images=changed.x.view(poison.images.shape)).sets(base)
        return Purified(sets, surviving)
    each = [defender.purify(Stage.PURIFY, s) for s in poisoned]
    if len(each[0]) != len(train):  # some were dropped: rows are not the attacker's any more
        return Purified(each, torch.zeros(0))
    first = Poison(poison.index[:1], poison.images[:1], poison.labels[:1])
    rows = torch.cat([torch.arange(len(train), device=first.index.device), first.index[0]])
    return Purified(each, examine(train, first, each[0].x[rows], defender.method, ctx))


def examine(train: ImageSet, poison: Poison, purified: Tensor, method: Defense, ctx: Context) -> Tensor:
    """Measure what is left of the perturbations of a sample, and record images, energies and chains.

    Args:
        purified: images of the base set followed by those of the poisons of all trials, as the defense returned them.

    Returns:
        :attr:`Purified.surviving`.
    """
    sample = _Sample.of(train, poison, purified)
    surviving = torch.zeros(0)
    if method.per_image and len(sample.clean):
        surviving = surviving_share(sample.clean, sample.poisoned, method, ctx).cpu()
    show_images(sample, surviving, ctx)
    if poison.budget:  # energies and chains are shown for clean and poisoned images side by side
        show_energies(train, poison, purified, method, ctx)
        count = min(SHOWN, max(FEWEST, SHOWN * PIXELS // sample.poisoned[0].numel()))
        show_chains(sample.clean.x[:count], sample.poisoned[:count], method, ctx)
    return surviving


def show_images(sample: _Sample, surviving: Tensor, ctx: Context) -> None:
    """The sample before it was poisoned, before and after purification."""
    count = len(sample.clean) + len(sample.plain)
    if len(surviving):
        surviving = torch.cat([surviving, torch.full((len(sample.plain),), torch.nan)])
    ctx.artifact(
        "purification",
        artifacts.PurificationTrace(
            torch.cat([sample.clean.x, sample.plain]),
            torch.cat([sample.poisoned, sample.plain]),
            sample.after,
            torch.arange(count) < len(sample.clean),
            surviving,
        ),
    )


def show_energies(train: ImageSet, poison: Poison, purified: Tensor, method: Defense, ctx: Context) -> None:
    """Energies of clean, poisoned and purified images, of a defense that has an energy model."""
    poisons = poison.images.flatten(0, 1)
    groups = (train.x, poisons, purified[len(train) :])
    energies = [method.energy(images[:ENERGIES]) for images in groups]
    known = [energy.cpu() for energy in energies if energy is not None]
    if len(known) == len(groups):
        ctx.artifact("energies", artifacts.EnergyHistogram(*known))


def surviving_share(clean: ImageSet, poisoned: Tensor, defense: Defense, ctx: Context) -> Tensor:
    """||Psi(x+d) - Psi(x)|| / ||d|| of each image, float32 ``(n,)``; NaN where d is 0.

    Two sets of one shape meet the same draws in a defense, which names its generators: what differs between the two
    results is due to d alone.

    Args:
        poisoned: uint8, the images of ``clean`` with their perturbations.
    """

    def send(event: Event) -> None:
        if not isinstance(event, Metric):  # those are of the training set; a cancel must still come through
            ctx.send(event)

    quiet = dataclasses.replace(ctx, send=send)
    kept = [defense.purify(dataclasses.replace(clean, x=x), quiet).x.float() for x in (poisoned, clean.x)]
    perturbation = (poisoned.float() - clean.x.float()).flatten(1).norm(dim=1)
    share: Tensor = (kept[0] - kept[1]).flatten(1).norm(dim=1) / perturbation
    return share.where(perturbation > 0, torch.nan)


def surviving_metrics(surviving: Tensor) -> dict[str, float | None]:
    """``surviving_share``, the mean over the sample, where it was measured."""
    known = surviving[surviving.isfinite()]
    return {"surviving_share": known.double().mean().item()} if len(known) else {}


def show_chains(clean: Tensor, poisoned: Tensor, defense: Defense, ctx: Context) -> None:
    """Chains from clean images and from their poisoned versions, recorded side by side.

    Each is a call of its own: both meet the same draws, so that the poison alone tells two chains of an image apart.
    """
    chain = defense.trace(clean, ctx)
    other = defense.trace(poisoned, ctx)
    if chain is None or other is None:
        return

    def distance(start: Tensor) -> Tensor:
        apart = (other.states.float() - start.float()) / 255
        norms: Tensor = apart.flatten(2).norm(dim=2)  # (s, n)
        return norms

    ctx.artifact(
        "langevin",
        artifacts.LangevinTrace(
            chain.steps,
            chain.states,
            other.states,
            chain.energies,
            other.energies,
            distance(poisoned),
            distance(clean),
            chain.used,
            chain.moments,
            same_noise=True,
        ),
    )
