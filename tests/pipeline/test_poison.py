"""What every poison is held to when it is built: 8 bits, clean labels, the bound."""

from dataclasses import replace

import pytest
import torch
from core_helpers import digits, small

from poisonlab.attacks.random_perturbation import RandomPerturbation
from poisonlab.pipeline.poison import ContractViolation, check
from poisonlab.types import Poison

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
