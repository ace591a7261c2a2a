"""Trained victims and how they come to be: from scratch, as heads on a frozen extractor, or fine-tuned from it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from poisonlab import training
from poisonlab.config import ExperimentSpec
from poisonlab.context import Context
from poisonlab.models.base import Classifier, channel_statistics, extract, initialise, predict
from poisonlab.stages import Bundle, fingerprint
from poisonlab.training import TrainingHook, fine_tune, train_heads, train_network
from poisonlab.types import ImageSet


@dataclass(frozen=True)
class Victims:
    """Classifiers of one or several trials, which share whatever the trials do not change.

    Attributes:
        network: the architecture with the shared weights, in eval mode.
        varying: state-dict name -> ``(trials, ...)``; these replace the network's own in each trial.
        learned: what a hook learned while the last one trained; no part of the victims themselves.
    """

    network: Classifier
    varying: dict[str, Tensor]
    learned: dict[str, Tensor] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return len(next(iter(self.varying.values())))

    def member(self, trial: int) -> Classifier:
        """The classifier of one trial, a copy of its own."""
        model = copy.deepcopy(self.network)
        model.load_state_dict({k: v[trial] for k, v in self.varying.items()}, strict=False)
        return model.eval().requires_grad_(False)

    def predict(self, x: Tensor) -> Tensor:
        """Labels of uint8 images, int64 ``(trials, n)``."""
        if set(self.varying) <= {"head.weight", "head.bias"}:
            features = extract(self.network, x)
            logits = torch.einsum("nd,tcd->tnc", features, self.varying["head.weight"])
            return (logits + self.varying["head.bias"][:, None]).argmax(2)
        return torch.stack([predict(self.member(t), x) for t in range(self.trials)])

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
            for p in ("shared.", "varying.", "learned.")
        }
        network.load_state_dict(pick["shared."], strict=False)
        return cls(network.eval().requires_grad_(False), pick["varying."], pick["learned."])

    @classmethod
    def of(cls, members: list[Classifier]) -> "Victims":
        """Victims that share nothing but their architecture."""
        states = [m.state_dict() for m in members]
        return cls(members[0], {k: torch.stack([s[k] for s in states]) for k in states[0]})


def new_network(spec: ExperimentSpec, data: ImageSet, ctx: Context) -> Classifier:
    """An untrained victim whose weights depend on the seed alone; normalised by ``data``'s statistics."""
    mean, std = channel_statistics(data.x)
    network: Classifier = spec.victim.build().network(data.shape, len(data.classes), mean, std).to(ctx.device)
    return initialise(network, ctx.generator("init")).to(memory_format=torch.channels_last)  # type: ignore[return-value]


def train_from_scratch(
    name: str,
    spec: ExperimentSpec,
    sets: list[ImageSet],
    ctx: Context,
    make_hook: Callable[[Context], TrainingHook | None] | None = None,
    hook_key: Any = None,
) -> Victims:
    """One network for each training set, all from the same start. A stage of its own.

    Args:
        make_hook: called with the stage's own context, so that what the hook reports is kept with the stage.
        hook_key: JSON-able; everything that decides what the hook does.
    """
    template = new_network(spec, sets[0], ctx)
    hooked = make_hook(ctx) if make_hook else None  # to be asked for its class alone

    def compute(inner: Context) -> Bundle:
        hook = make_hook(inner) if make_hook else None
        # the same set again, as for the controls of a targeted attack, costs nothing
        trained: dict[int, Classifier] = {}
        for data in sets:
            if id(data) not in trained:
                trained[id(data)] = network = new_network(spec, data, inner)
                train_network(network, data, spec.training, inner, hook)
        learned = hook.learned() if hook else {}
        victims = Victims.of([trained[id(data)] for data in sets])
        return Bundle(victims.tensors() | {f"learned.{name}": value for name, value in learned.items()})

    key = [
        fingerprint(*(t for s in sets for t in (s.x, s.y))),
        spec.victim.model_dump(mode="json"),
        spec.training.model_dump(mode="json"),
        spec.seed,
        hook_key if hooked else None,
    ]
    code = [training, type(spec.victim.build()), *([type(hooked)] if hooked else [])]
    return Victims.from_tensors(template, ctx.stage(name, key, code, compute).tensors)


def train_transfer(name: str, spec: ExperimentSpec, extractor: Victims, sets: list[ImageSet], ctx: Context) -> Victims:
    """A linear head for each training set on the extractor's frozen features. A stage of its own."""
    network = extractor.member(0)

    def compute(inner: Context) -> Bundle:
        alike = len({len(s) for s in sets}) == 1  # else a defense dropped images, and heads cannot be trained together
        heads = []
        for stack in [sets] if alike else [[s] for s in sets]:
            features = torch.stack([extract(network, s.x) for s in stack])  # (trials, n, d)
            labels = torch.stack([s.y for s in stack])
            heads.append(train_heads(features, labels, len(sets[0].classes), spec.head, inner))
        learned = {"weight": torch.cat([h.weight for h in heads]), "bias": torch.cat([h.bias for h in heads])}
        return Bundle({f"varying.head.{name}": value for name, value in learned.items()})

    key = [
        fingerprint(*(t for s in sets for t in (s.x, s.y))),
        fingerprint(*extractor.tensors().values()),
        spec.head.model_dump(mode="json"),
        spec.seed,
    ]
    learned = ctx.stage(name, key, [training], compute).tensors
    return Victims(network, {k.removeprefix("varying."): v for k, v in learned.items()})


def train_fine_tuned(
    name: str,
    spec: ExperimentSpec,
    extractor: Victims,
    sets: list[ImageSet],
    ctx: Context,
    make_hook: Callable[[Context], TrainingHook | None] | None = None,
    hook_key: Any = None,
) -> Victims:
    """For each training set the whole extractor, trained on under a fresh head that all sets share. A stage of its own.

    Args:
        make_hook, hook_key: as in :func:`train_from_scratch`.
    """
    network, different = extractor.member(0), list({id(s): s for s in sets}.values())
    hooked = make_hook(ctx) if make_hook else None  # to be asked for its class alone

    def compute(inner: Context) -> Bundle:
        hook = make_hook(inner) if make_hook else None
        members = []
        for data in different:
            member = extractor.member(0).requires_grad_(True)
            initialise(member.head, inner.generator("heads"))
            fine_tune(member, data, spec.fine_tune, inner, hook)
            members.append(member)
        return Bundle(Victims.of(members).tensors())

    key = [
        fingerprint(*(t for s in different for t in (s.x, s.y))),
        fingerprint(*extractor.tensors().values()),
        spec.fine_tune.model_dump(mode="json"),
        spec.seed,
        hook_key if hooked else None,
    ]
    code = [training, train_fine_tuned, *([type(hooked)] if hooked else [])]
    learned = Victims.from_tensors(network, ctx.stage(name, key, code, compute).tensors)
    place = torch.tensor([[id(s) for s in different].index(id(s)) for s in sets], device=ctx.device)
    return Victims(learned.network, {k: _member(v, place) for k, v in learned.varying.items()})


def _member(stacked: Tensor, place: Tensor) -> Tensor:
    """Rows of ``stacked``; one that serves all trials, as the control does, takes no memory twice."""
    return stacked.expand(len(place), *stacked.shape[1:]) if len(stacked) == 1 else stacked[place]
