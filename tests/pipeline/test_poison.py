"""What every poison is held to when it is built: 8 bits, clean labels, the bound."""

from dataclasses import replace

import pytest
import torch
from core_helpers import TINY, digits, small
from torch import Tensor

from poisonlab.attacks.lira import Lira
from poisonlab.attacks.random_perturbation import RandomPerturbation
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.poison import ContractViolation, check
from poisonlab.spec.config import make_spec
from poisonlab.types import ImageSet, Poison

ATTACK = small(RandomPerturbation, eps=4)


def honest() -> Poison:
    """Ten images, their brighter half moved down and the darker one up, by as much as the bound allows."""
    train, index = digits().train, torch.arange(10)[None]
    base = train.x[index].to(torch.int16)
    return Poison(index, (base + torch.where(base > 127, -4, 4)).to(torch.uint8), train.y[index])


def test_what_keeps_its_word_passes() -> None:
    check(honest(), ATTACK, digits().train)


def test_a_pixel_beyond_the_bound_is_named_with_the_bound() -> None:
    poison = honest()
    poison.images[0, 3, 0, 5, 5] = digits().train.x[3, 0, 5, 5] ^ 128

    with pytest.raises(ContractViolation, match=r"moved a pixel by 128/255; its bound is 4/255"):
        check(poison, ATTACK, digits().train)


def test_a_changed_label_and_images_of_floats_are_refused() -> None:
    poison = honest()

    with pytest.raises(ContractViolation, match="clean-label attack and changed 10 labels"):
        check(replace(poison, labels=(poison.labels + 1) % 10), ATTACK, digits().train)
    with pytest.raises(ContractViolation, match="torch.float32"):
        check(replace(poison, images=poison.images / 255), ATTACK, digits().train)


def test_what_a_victims_training_made_of_the_poison_is_held_to_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LIRA's noise is learned there."""

    def brighter(self: Lira, poison: Poison, learned: dict[str, Tensor], train: ImageSet) -> Poison:
        return replace(poison, images=train.x[poison.index].bitwise_xor(128))

    monkeypatch.setattr(Lira, "finalize", brighter)
    spec = make_spec("digits", "lira", "none", overrides=TINY | {"victim.width": 8})

    with pytest.raises(ContractViolation, match=r"moved a pixel by 128/255; its bound is 4/255"):
        run_experiment(spec, Context())
