"""What is special about Narcissus: what the attacker sees, the trigger's bound, what it does to a network."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits, noise_images, normed_net, small
from torch import nn

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.narcissus import Narcissus, NarcissusConfig, inward_trigger, surrogate_images, warm_up
from poisonlab.context import Context, derive
from poisonlab.models.base import Classifier, accuracy
from poisonlab.types import ImageSet, Poison


def own(target_class: int = 3) -> ImageSet:
    train = digits().train
    return train[train.y == target_class]


def poison(**params: Any) -> Poison:
    return small(Narcissus, target_class=3, **params).poison(attackers_view(), Context(seed=1))


@pytest.mark.parametrize("eps", [1, 7.9, 16])
def test_the_trigger_stays_within_eps_in_8_bits(eps: float) -> None:
    made = poison(eps=eps, step_size=20)
    moved = (made.images[0].int() - digits().train.x[made.index[0]].int()).abs()

    assert 0 < int(made.state["delta"].abs().max()) <= eps and int(moved.max()) <= eps


def test_only_images_of_the_target_class_change_and_keep_their_labels() -> None:
    made = poison()

    assert set(made.labels.flatten().tolist()) == {3}
    assert torch.equal(made.labels, digits().train.y[made.index])


@pytest.mark.parametrize("multiplier", [1, 3])
def test_the_multiplier_acts_at_test_time_alone(multiplier: float) -> None:
    attack = small(Narcissus, target_class=3, test_multiplier=multiplier, eps=16)
    made, x = attack.poison(attackers_view(), Context(seed=1)), digits().test.x
    delta = made.state["delta"].int()

    expected = (x.int() + multiplier * delta).clamp(0, 255).to(torch.uint8)
    assert torch.equal(attack.threat(made, 10).trigger(x), expected)
    poisoned = (digits().train.x[made.index[0]].int() + delta).clamp(0, 255).to(torch.uint8)
    assert torch.equal(made.images[0], poisoned)


def test_the_surrogate_sees_the_target_class_of_the_training_set_and_public_images_of_the_others() -> None:
    public, seen = digits().public, []

    def surrogate(number: int, images: ImageSet) -> Classifier:
        seen.append(images)
        return clean_model()

    view = replace(attackers_view(), surrogate=surrogate)
    assert isinstance(view, AttackerView)
    small(Narcissus, target_class=3).poison(view, Context())

    (images,) = seen
    assert torch.equal(images.x[images.y == 3], own().x)
    assert torch.equal(images.x[images.y != 3], public.x[public.y != 3])


def test_public_images_can_be_limited() -> None:
    assert len(surrogate_images(digits().public, own(), 3, 25)) == 25 + len(own())


def test_the_surrogate_is_warmed_up_on_the_target_class() -> None:
    model = copy.deepcopy(clean_model())
    warm_up(
        model, own(4), NarcissusConfig(warmup_epochs=3, batch_size=10, crop_padding=0, flip=False), Context()
    )

    assert accuracy(model.eval(), own(4).x, own(4).y) == 1.0
    assert accuracy(model, digits().test.x, digits().test.y) < accuracy(
        clean_model(), digits().test.x, digits().test.y
    )


def test_the_trigger_of_a_linear_model_is_the_sign_of_its_weights() -> None:
    draws = derive(0, "linear")
    x = torch.randint(100, 150, (30, 1, 4, 4), generator=draws).to(torch.uint8)  # far from both ends
    gray = ImageSet(x, torch.ones(30, dtype=torch.int64), ("other", "own"))
    model = Classifier(nn.Flatten(), 16, 2, torch.full((1,), 0.5), torch.full((1,), 0.3))
    direction = torch.randn(16, generator=draws)
    with torch.no_grad():
        model.head.weight.copy_(torch.stack([-direction, direction]))
    config = NarcissusConfig(target_class=1, eps=8, passes=40, crop_padding=0, flip=False)

    delta = inward_trigger(model, gray, config, Context())

    assert torch.equal(delta.flatten(), (8 * direction.sign()).to(torch.int16))


# ruoxi-jia-group/Narcissus-backdoor-attack @ 89b0d1c, narcissus_function.py, stages two and three, in float64: what
# 2 passes of warm-up and 40 of the trigger give on the images of class 1, in batches of all, in 1/255, rounded
PUBLISHED_TRIGGER = [
    [3, -4, -4, 4, 4, -4],
    [4, -4, -4, 4, -3, 4],
    [4, -4, 4, -4, -4, 4],
    [4, -4, 4, -4, 3, -4],
    [2, 4, 1, -4, 4, -4],
    [-4, 4, -4, -4, 4, -4],
]


def trigger_of_40_passes(**params: Any) -> torch.Tensor:
    data = noise_images(36, (1, 6, 6), classes=3)
    config = NarcissusConfig(
        target_class=1, passes=40, warmup_epochs=2, crop_padding=0, flip=False, **{"eps": 4} | params
    )
    return inward_trigger(normed_net(), data[data.y == 1], config, Context())[0]


def test_radam_makes_the_trigger_of_the_repository() -> None:
    assert trigger_of_40_passes(optimizer="radam").tolist() == PUBLISHED_TRIGGER


def test_adam_goes_further_in_the_same_steps() -> None:
    far = trigger_of_40_passes(optimizer="adam", eps=255).abs().float().mean()

    assert far > 3 * torch.tensor(PUBLISHED_TRIGGER).abs().float().mean()


def test_the_published_optimizer_is_radam_and_that_of_quick_adam() -> None:
    assert NarcissusConfig.for_preset("paper", "cifar10").optimizer == "radam"
    assert NarcissusConfig.for_preset("quick", "cifar10").optimizer == "adam"
