"""The attacker's moment: what an attack may look at and train, its poison, and the victims before any defense."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.surrogates import DropoutTraining, parse_surrogates
from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint, fingerprint_images
from poisonlab.context import Context
from poisonlab.measure.galleries import show_poison
from poisonlab.measure.monitor import while_trained
from poisonlab.models.base import Classifier
from poisonlab.spec.config import ExperimentSpec, TrainingConfig, VictimPart
from poisonlab.spec.stages import Stage
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims, train_from_scratch
from poisonlab.types import Bundle, ImageSet, Poison, PoisonedSets, Splits, Threat

OWN_SEEDS = 1_000_003  # what the attacker trains has a seed of its own: the control is another model


@dataclass(frozen=True)
class Attacked:
    """An attack that was carried out, as the experimenter knows it.

    Attributes:
        control: victims trained without poison.
        undefended: victims of the poison, one for each trial.
    """

    splits: Splits
    poison: Poison
    threat: Threat
    control: Victims
    undefended: Victims

    @property
    def sets(self) -> PoisonedSets:
        """The poisoned training set of each trial."""
        return self.poison.sets(self.splits.train)

    def poisoned_rows(self, trial: int = 0) -> Tensor:
        """bool ``(n,)``: which training images of a trial are poisoned."""
        labels = self.splits.train.y
        rows = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        rows[self.poison.index[trial]] = True
        return rows


def carry_out(spec: ExperimentSpec, splits: Splits, trainer: Trainer, ctx: Context) -> Attacked:
    """The poison, a control without it, and the undefended victims, each a stage or several."""
    attack: Attack = spec.attack.build()
    train = splits.train
    poison = craft(attack, spec, splits, trainer, ctx)
    takes_part = attack.training_hook(poison, ctx) is not None
    if not takes_part:
        show_poison(train, poison, ctx)
    control = trainer.train(Stage.CONTROL, [train], poison.trials)
    if takes_part:
        undefended = train_with_attacker(attack, spec, poison, train, trainer)
        poison = attack.finalize(poison, undefended.learned[-1], train)
        check(poison, attack, train)
        show_poison(train, poison, ctx)
    threat = attack.threat(poison, len(train.classes))
    if not attack.poisons:
        undefended = control
    elif not takes_part:
        look = while_trained(splits.test, threat)
        undefended = trainer.train(Stage.VICTIM, poison.sets(train), poison.trials, observer=look)
    return Attacked(splits, poison, threat, control, undefended)


def craft(attack: Attack, spec: ExperimentSpec, splits: Splits, trainer: Trainer, ctx: Context) -> Poison:
    """The poison of all trials, a stage; networks that the attack asks for are stages of their own."""
    public = splits.public if attack.reads_public else splits.public[:0]

    def compute(inner: Context) -> Bundle:
        poison = attack.poison(_view(spec, splits, public, trainer, ctx.seed + OWN_SEEDS), inner)
        check(poison, attack, splits.train)
        return Bundle(poison.tensors())

    surrogates = parse_surrogates(getattr(attack.config, "surrogates", ""))
    recipes = [spec.protocol, spec.training, spec.head, spec.fine_tune, spec.weights, spec.seed]
    key = [
        fingerprint_images([splits.train, splits.test, public, splits.pretrain]),
        spec.attack,
        spec.victim,
        surrogates,
        recipes,
    ]
    return Poison.from_tensors(run_stage(ctx, Stage.POISON, key, compute).tensors)


def train_with_attacker(
    attack: Attack, spec: ExperimentSpec, poison: Poison, train: ImageSet, trainer: Trainer
) -> Victims:
    """Undefended victims in whose training the attacker has a hand, and what its hook learned there."""
    key = [spec.attack, fingerprint(*poison.tensors().values())]
    make_hook = partial(attack.training_hook, poison)
    return trainer.train(Stage.VICTIM, [train], poison.trials, make_hook=make_hook, hook_key=key)


class ContractViolation(RuntimeError):
    """An attack changed more than it says it does: an error in its code, found before anybody learns from it."""


def check(poison: Poison, attack: Attack, train: ImageSet) -> None:
    """Whether the images are of 8 bits and of the right shape, a clean label is kept, and so is the bound.

    Raises:
        ContractViolation: one of these does not hold; says which, and by how much.
    """
    before = train.x[poison.index]
    if poison.images.dtype != torch.uint8 or poison.images.shape != before.shape:
        found = f"{poison.images.dtype} {tuple(poison.images.shape)}"
        raise ContractViolation(
            f"{attack.name} made images of {found}, in the place of uint8 {tuple(before.shape)}"
        )
    changed = int((poison.labels != train.y[poison.index]).sum())
    if attack.clean_label and changed:
        raise ContractViolation(f"{attack.name} is a clean-label attack and changed {changed} labels")
    bound = attack.bound()
    if bound is not None:
        moved = int((poison.images.to(torch.int16) - before.to(torch.int16)).abs().max())
        if moved > bound:
            raise ContractViolation(f"{attack.name} moved a pixel by {moved}/255; its bound is {bound:g}/255")


def _view(
    spec: ExperimentSpec, splits: Splits, public: ImageSet, trainer: Trainer, first: int
) -> AttackerView:
    """What the attacker may look at.

    Args:
        first: the seed of its clean model; those of its surrogates follow.
    """

    def clean_model() -> Classifier:
        return trainer.train(Stage.ATTACKERS_MODEL, [splits.train], seed=first).member(0)

    def extractor() -> Classifier:
        return clean_model() if spec.protocol == "from_scratch" else trainer.extractor().member(0)

    def surrogate(
        number: int,
        images: ImageSet | None = None,
        victim: VictimPart | None = None,
        dropout: float = 0.0,
        recipe: Callable[[str], TrainingConfig] | None = None,
    ) -> Classifier:
        reseeded, ctx = trainer.reseeded(first + 1 + number)
        kind = victim or spec.victim
        training = recipe(kind.name) if recipe else spec.training
        weights = spec.weights if kind == spec.victim else ""  # another network has other layers
        reseeded = reseeded.model_copy(update={"victim": kind, "training": training, "weights": weights})
        shared = splits.train if spec.protocol == "from_scratch" else splits.pretrain
        data = shared if images is None else images
        make_hook = partial(DropoutTraining.of, dropout)
        return train_from_scratch(Stage.SURROGATE, reseeded, [data], ctx, make_hook, dropout).member(0)

    return AttackerView(splits.train, splits.test, clean_model, extractor, public, surrogate)
