"""Purification of training sets, what it does to images, recorded for the pages, and how much of a poison it leaves."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.events import Event, Metric
from poisonlab.measure.galleries import SHOWN, examples
from poisonlab.pipeline.defend import Defender
from poisonlab.records import artifacts
from poisonlab.spec.config import ExperimentSpec
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
    rows, x = order[: round(share * len(public))], public.x.clone()
    x[rows] = threat.trigger(x[rows])
    return dataclasses.replace(public, x=x, split=f"{public.split}, {share:.0%} of them with the trigger")


def purify_sets(
    train: ImageSet, poison: Poison, poisoned: Sequence[ImageSet], defender: Defender, ctx: Context
) -> Sequence[ImageSet]:
    """Each trial's training set as the defense leaves it.

    Args:
        train: before poisoning. poisoned: the set of each trial.
    """
    if defender.method.per_image:  # the base once for all attacks on it, then only what the trials changed
        base = defender.purify("purify", train)
        changed = ImageSet(poison.images.flatten(0, 1), poison.labels.flatten(), train.classes)
        if poison.budget:
            changed = defender.purify("purify_poisons", changed)
        show_purification(train, poison, joined(base, changed), defender.method, ctx)
        return dataclasses.replace(poison, images=changed.x.view(poison.images.shape)).sets(base)
    sets = [defender.purify("purify", s) for s in poisoned]
    if len(sets[0]) == len(train):  # none was dropped: rows are still the attacker's
        first = Poison(poison.index[:1], poison.images[:1], poison.labels[:1])
        rows = torch.cat([torch.arange(len(train), device=first.index.device), first.index[0]])
        show_purification(train, first, sets[0][rows], defender.method, ctx)
    return sets


def show_purification(
    train: ImageSet, poison: Poison, purified: ImageSet, defense: Defense, ctx: Context
) -> None:
    """Images before and after, energies of clean, poisoned and purified, and chains of some of them.

    Args:
        purified: the base set followed by the poisons of all trials, as the defense returned them.
    """
    trial, position = examples(poison, SHOWN)
    rows = poison.index[trial, position]
    after_poison = purified.x[len(train) + trial.to(rows.device) * poison.budget + position.to(rows.device)]
    untouched = torch.ones(len(train), dtype=torch.bool, device=rows.device)
    untouched[poison.index.flatten()] = False
    plain = untouched.nonzero().squeeze(1)[:UNTOUCHED]
    clean, before_poison = train[rows], poison.images[trial, position]
    surviving = torch.zeros(0)
    if defense.per_image and len(rows):
        share = surviving_share(clean, before_poison, defense, ctx)
        surviving = torch.cat([share.cpu(), torch.full((len(plain),), torch.nan)])
    ctx.artifact(
        "purification",
        artifacts.PurificationTrace(
            torch.cat([clean.x, train.x[plain]]),
            torch.cat([before_poison, train.x[plain]]),
            torch.cat([after_poison, purified.x[plain]]),
            torch.arange(len(rows) + len(plain)) < len(rows),
            surviving,
        ),
    )
    if poison.budget == 0:
        return  # energies and chains are shown for clean and poisoned images side by side
    everything = poison.images.flatten(0, 1)[:ENERGIES]
    energies = [
        defense.energy(x) for x in (train.x[:ENERGIES], everything, purified.x[len(train) :][:ENERGIES])
    ]
    if all(e is not None for e in energies):
        ctx.artifact("energies", artifacts.EnergyHistogram(*[e.cpu() for e in energies if e is not None]))
    count = min(SHOWN, max(FEWEST, SHOWN * PIXELS // before_poison[0].numel()))
    show_chains(clean.x[:count], before_poison[:count], defense, ctx)


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
    share = (kept[0] - kept[1]).flatten(1).norm(dim=1) / perturbation
    return share.where(perturbation > 0, torch.nan)


def surviving_metrics(trace: artifacts.PurificationTrace) -> dict[str, float]:
    """``surviving_share``, the mean over the images shown, where it was measured."""
    known = trace.surviving[trace.surviving.isfinite()]
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
        return ((other.states.float() - start.float()) / 255).flatten(2).norm(dim=2)  # (s, n)

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
