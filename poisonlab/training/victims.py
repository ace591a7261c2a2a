"""Trained victims: from scratch, as heads on a frozen extractor, or fine-tuned from it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.models.base import (
    Classifier,
    channel_statistics,
    extract,
    initialize,
    learn_from_images,
    logits,
)
from poisonlab.models.shared.inserted import insert_named
from poisonlab.spec.config import ExperimentSpec, VictimPart
from poisonlab.training.loop import (
    LEARNING,
    TrainingHook,
    fine_tune,
    train_head,
    train_heads,
    train_network,
)
from poisonlab.training.own_weights import brought, start_from
from poisonlab.types import Bundle, ImageSet

TRIALS = "trials"  # the phase in which the victims of several trials are trained, one after the other

MakeHook = Callable[[Context], TrainingHook | None]


@dataclass(frozen=True)
class Victims:
    """Classifiers of one or several trials, which share whatever the trials do not change.

    Attributes:
        network: the architecture with the shared weights, in eval mode.
        varying: state-dict name -> ``(members, ...)``; these replace the network's own in each member.
        learned: what a hook learned while each member trained; no part of the victims themselves. Empty where they
            were not trained one by one.
        shared_by: trials that each member serves, as all share the control of a targeted attack.
    """

    network: Classifier
    varying: dict[str, Tensor]
    learned: tuple[dict[str, Tensor], ...] = ()
    shared_by: int = 1

    @property
    def members(self) -> int:
        return len(next(iter(self.varying.values())))

    @property
    def trials(self) -> int:
        return self.members * self.shared_by

    def serving(self, trials: int) -> Self:
        """The same victims for a number of trials, a multiple of theirs."""
        return replace(self, shared_by=trials // self.members)

    def member(self, number: int) -> Classifier:
        """One classifier, a copy of its own."""
        model = copy.deepcopy(self.network)
        model.load_state_dict({k: v[number] for k, v in self.varying.items()}, strict=False)
        return model.eval().requires_grad_(False)

    def predict(self, x: Tensor) -> Tensor:
        """Labels of uint8 images, int64 ``(trials, n)``; each member is asked once."""
        return torch.stack([member.argmax(1) for member in self._logits(x)]).repeat_interleave(
            self.shared_by, 0
        )

    def probabilities(self, x: Tensor) -> Tensor:
        """Softmax of uint8 images, float ``(trials, n, classes)``: for a few images, where there are many trials."""
        return torch.stack([member.float().softmax(1) for member in self._logits(x)]).repeat_interleave(
            self.shared_by, 0
        )

    def _logits(self, x: Tensor) -> Iterator[Tensor]:
        """``(n, classes)`` of one member after the other."""
        if set(self.varying) <= {"head.weight", "head.bias"}:
            features = extract(self.network, x)
            for weight, bias in zip(self.varying["head.weight"], self.varying["head.bias"], strict=True):
                yield F.linear(features, weight, bias)
        else:
            for number in range(self.members):
                yield logits(self.member(number), x)

    def identity(self) -> list[Any]:
        """What a stage that runs them depends on, for its key: the kind of victim, and all weights."""
        return [self.network.victim, fingerprint(*self.tensors().values())]

    def tensors(self) -> dict[str, Tensor]:
        """For the stage cache: what varies, and the rest once."""
        shared = {f"shared.{k}": v for k, v in self.network.state_dict().items() if k not in self.varying}
        everything = shared | {f"varying.{k}": v for k, v in self.varying.items()}
        return dict(sorted(everything.items()))  # computed and loaded ones in one order: keys are made of it

    @classmethod
    def from_tensors(cls, network: Classifier, tensors: dict[str, Tensor]) -> "Victims":
        network = copy.deepcopy(network)
        pick = {
            p: {k.removeprefix(p): v for k, v in tensors.items() if k.startswith(p)}
            for p in ("shared.", "varying.")
        }
        insert_named(network, pick["shared."].keys() | pick["varying."].keys())
        network.load_state_dict(pick["shared."], strict=False)
        return cls(network.eval().requires_grad_(False), pick["varying."])

    @classmethod
    def of(cls, members: list[Classifier]) -> "Victims":
        """Victims that share nothing but their architecture."""
        states = [m.state_dict() for m in members]
        return cls(members[0], {k: torch.stack([s[k] for s in states]) for k in states[0]})


def new_network(spec: ExperimentSpec, data: ImageSet, ctx: Context) -> Classifier:
    """An untrained victim whose weights depend on the seed alone; normalized by ``data``'s statistics.

    Where the spec names weights, or the victim brings some, it starts from these.

    Raises:
        WeightsError: the weights are not there, or do not fit.
    """
    mean, std = channel_statistics(data.x)
    network: Classifier = spec.victim.build().network(data.shape, len(data.classes), mean, std).to(ctx.device)
    network.victim = spec.victim
    initialize(network, ctx.generator("init"))
    learn_from_images(network, data.x)
    for said in start_from(network, spec, data.shape, len(data.classes)):
        ctx.log(said)
    return network.to(memory_format=torch.channels_last)


def outline(part: VictimPart, shape: tuple[int, int, int], classes: int) -> Classifier:
    """A victim without numbers, on torch's device ``meta`` where it can be built there: its layers and their shapes.

    Raises:
        ValueError: it does not take images of this shape.
    """

    def build() -> Classifier:
        statistics = torch.ones(shape[0]), torch.ones(shape[0])
        network: Classifier = part.build().network(shape, classes, *statistics)
        return network.eval()

    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # another's network may look at numbers while it is built
        with torch.random.fork_rng(devices=[]):
            return build()


def train_from_scratch(
    name: str,
    spec: ExperimentSpec,
    sets: Sequence[ImageSet],
    ctx: Context,
    make_hook: MakeHook | None = None,
    hook_key: Any = None,
) -> Victims:
    """One network for each training set, all from the same start. Each is a stage of its own.

    Args:
        sets: read one after the other, never together.
        make_hook: called with a stage's own context, so that what the hook reports is kept with the stage.
        hook_key: everything that decides what the hook does, the part of the spec that it belongs to included.
    """
    template = new_network(spec, sets[0], ctx)

    def train(data: ImageSet, inner: Context, hook: TrainingHook | None) -> Classifier:
        network = new_network(spec, data, inner)
        train_network(network, data, spec.training, inner, hook, phase=LEARNING, whole_stage=True)
        return network

    start = spec.weights or fingerprint(*brought(spec.victim, sets[0].shape, len(sets[0].classes)).values())
    key = [spec.victim, spec.training, spec.seed, start]
    return _one_by_one(name, template, train, sets, key, ctx, make_hook, hook_key)


def train_on_extractor(
    name: str,
    spec: ExperimentSpec,
    extractor: Victims,
    sets: Sequence[ImageSet],
    ctx: Context,
    make_hook: MakeHook | None = None,
    hook_key: Any = None,
) -> Victims:
    """For each training set the extractor under a fresh head that all sets share, trained on images. Each is a stage.

    The protocol decides what is trained: the whole network or the head alone, for which :func:`train_transfer` does the
    same from features computed once where no hook changes the images.

    Args:
        sets, make_hook, hook_key: as in :func:`train_from_scratch`.
    """
    whole = spec.protocol == "fine_tune_transfer"
    recipe = spec.fine_tune if whole else spec.head

    def train(data: ImageSet, inner: Context, hook: TrainingHook | None) -> Classifier:
        network = extractor.member(0).requires_grad_(True)
        initialize(network.head, inner.generator("heads"))
        if whole:
            fine_tune(network, data, spec.fine_tune, inner, hook)
        else:
            train_head(network, network.head, data, spec.head, inner, hook)
        return network

    key = [extractor.identity(), recipe, spec.seed]
    return _one_by_one(name, extractor.member(0), train, sets, key, ctx, make_hook, hook_key)


def _one_by_one(
    name: str,
    template: Classifier,
    train: Callable[[ImageSet, Context, TrainingHook | None], Classifier],
    sets: Sequence[ImageSet],
    key: list[Any],
    ctx: Context,
    make_hook: MakeHook | None,
    hook_key: Any,
) -> Victims:
    """A network for each set, a stage of its own, in the order of the sets; each may be evaluated."""
    unwatched = replace(ctx, observer=None)  # a hook receives no object that knows the threat
    hooked = make_hook is not None and make_hook(unwatched) is not None
    key = [*key, hook_key if hooked else None]

    def compute(data: ImageSet, inner: Context) -> Bundle:
        hook = make_hook(inner) if make_hook else None
        network = train(data, inner, hook)
        learned = hook.learned() if hook else {}
        return Bundle(
            Victims.of([network]).tensors() | {f"learned.{part}": value for part, value in learned.items()}
        )

    members = []
    learned = []
    for number, data in enumerate(sets, 1):
        own = (unwatched if hooked else ctx).of_trial(number - 1)
        done = run_stage(own, name, [fingerprint_images([data]), *key], partial(compute, data))
        members.append(Victims.from_tensors(template, done.tensors))
        prefix = "learned."
        learned.append({k.removeprefix(prefix): v for k, v in done.tensors.items() if k.startswith(prefix)})
        seen = ctx.observer(TRIALS, number, members[-1].member(0)) if ctx.observer else None
        for metric, value in (seen or {}).items():
            ctx.for_stage(name).metric(metric, number, value)
    varying = {k: torch.cat([m.varying[k] for m in members]) for k in members[0].varying}
    return Victims(members[-1].network, varying, tuple(learned))


def train_transfer(
    name: str, spec: ExperimentSpec, extractor: Victims, sets: Sequence[ImageSet], trials: int, ctx: Context
) -> Victims:
    """A linear head for each trial on the extractor's frozen features, from a start of its own. A stage of its own.

    Args:
        sets: one for each trial, or one for all.
    """
    network = extractor.member(0)

    def compute(inner: Context) -> Bundle:
        alike = (
            len({len(s) for s in sets}) == 1
        )  # else a defense dropped images, and heads cannot be trained together
        heads = []
        for stack in [sets] if alike else [[s] for s in sets]:
            shown = trials if alike else 1
            features = torch.stack([extract(network, s.x) for s in stack]).expand(
                shown, -1, -1
            )  # (trials, n, d)
            labels = torch.stack([s.y for s in stack]).expand(shown, -1)
            heads.append(train_heads(features, labels, len(sets[0].classes), spec.head, inner))
        learned = {"weight": torch.cat([h.weight for h in heads]), "bias": torch.cat([h.bias for h in heads])}
        return Bundle({f"varying.head.{name}": value for name, value in learned.items()})

    key = [
        fingerprint_images(sets),
        trials,
        extractor.identity(),
        spec.head,
        spec.seed,
    ]
    learned = run_stage(ctx, name, key, compute).tensors
    return Victims(network, {k.removeprefix("varying."): v for k, v in learned.items()})
