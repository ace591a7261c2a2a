"""The attacker's moment: what an attack may look at and train, and the stage that its poison is."""

from functools import partial

import torch

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.surrogates import DropoutTraining, parse_surrogates
from poisonlab.cache.stage_cache import run_stage
from poisonlab.cache.stage_key import fingerprint_images
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.spec.config import ExperimentSpec, VictimPart
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import train_from_scratch
from poisonlab.types import Bundle, ImageSet, Poison, Splits

OWN_SEEDS = 1_000_003  # what the attacker trains has a seed of its own: the control is another model


def craft(attack: Attack, spec: ExperimentSpec, splits: Splits, trainer: Trainer, ctx: Context) -> Poison:
    """The poison of all trials, a stage; networks that the attack asks for are stages of their own."""
    public = splits.public if attack.reads_public else splits.public[:0]

    def compute(inner: Context) -> Bundle:
        poison = attack.poison(_view(spec, splits, public, trainer, ctx.seed + OWN_SEEDS), inner)
        check(poison, attack, splits.train)
        return Bundle(poison.tensors())

    surrogates = parse_surrogates(getattr(attack.config, "surrogates", ""))
    recipes = [spec.protocol, spec.training, spec.head, spec.fine_tune, spec.seed]
    key = [
        fingerprint_images([splits.train, splits.test, public, splits.pretrain]),
        spec.attack,
        spec.victim,
        surrogates,
        recipes,
    ]
    return Poison.from_tensors(run_stage(ctx, "poison", key, compute).tensors)


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
        return trainer.train("attackers_model", [splits.train], seed=first).member(0)

    def extractor() -> Classifier:
        return clean_model() if spec.protocol == "from_scratch" else trainer.extractor().member(0)

    def surrogate(
        number: int, images: ImageSet | None = None, victim: VictimPart | None = None, dropout: float = 0.0
    ) -> Classifier:
        reseeded, ctx = trainer.reseeded(first + 1 + number)
        reseeded = reseeded.model_copy(update={"victim": victim or spec.victim})
        shared = splits.train if spec.protocol == "from_scratch" else splits.pretrain
        sets, make_hook = [shared if images is None else images], partial(DropoutTraining.of, dropout)
        return train_from_scratch("surrogate", reseeded, sets, ctx, make_hook, dropout).member(0)

    return AttackerView(splits.train, splits.test, clean_model, extractor, public, surrogate)
