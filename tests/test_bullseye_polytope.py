"""What is special about Bullseye Polytope: the bound, the targets, the gradient."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits, listening, small
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poisonlab.attacks.bullseye_polytope import (
    BullseyePolytope,
    BullseyePolytopeConfig,
    bullseye_loss,
    craft,
)
from poisonlab.attacks.pixels import round_within
from poisonlab.context import Context, derive
from poisonlab.events import Metric
from poisonlab.models.base import Classifier, predict
from poisonlab.types import Poison


def poison(**params: Any) -> Poison:
    return small(BullseyePolytope, **params).poison(attackers_view(), Context(seed=3))


@given(st.floats(0.01, 255), st.integers(0, 2**31), st.floats(0.1, 3))
def test_rounding_keeps_the_bound_for_any_eps(eps: float, seed: int, stretch: float) -> None:
    draws = derive(seed, "bound")
    base = torch.randint(0, 256, (2, 3, 1, 4, 4), generator=draws).to(torch.uint8)
    moved = base / 255 + stretch * eps / 255 * (2 * torch.rand(base.shape, generator=draws) - 1)

    rounded = round_within(moved, base, eps)

    assert rounded.dtype == torch.uint8
    assert int((rounded.int() - base.int()).abs().max()) <= eps


@pytest.mark.parametrize("eps", [1, 7.9, 16.5])
def test_crafted_images_stay_within_eps(eps: float) -> None:
    made = poison(eps=eps, step_size=20, steps=8)
    moved = (made.images.int() - attackers_view().train.x[made.index].int()).abs()

    assert 0 < int(moved.max()) <= eps


def test_labels_are_unchanged_and_equal_the_adversarial_class() -> None:
    made = poison()

    assert torch.equal(made.labels, attackers_view().train.y[made.index])
    assert torch.equal(made.labels[:, 0], made.state["adversarial_labels"])


def test_targets_are_test_images_that_the_clean_model_gets_right() -> None:
    state = poison(targets=10).state
    images = {image.tobytes() for image in digits().test.x.numpy()}

    assert torch.equal(predict(clean_model(), state["target_images"]), state["true_labels"])
    assert all(image.tobytes() in images for image in state["target_images"].numpy())


def test_classes_can_be_chosen() -> None:
    state = poison(source_class=2, target_class=7).state

    assert state["true_labels"].tolist() == [2, 2] and state["adversarial_labels"].tolist() == [7, 7]


def test_crafting_brings_the_centre_of_features_to_the_target() -> None:
    base = digits().train.x[:12].view(2, 6, 1, 16, 16)
    ctx, heard = listening()
    config = BullseyePolytopeConfig(eps=64, step_size=4, steps=40)

    craft(clean_model(), base, digits().test.x[:2], config, ctx)

    distances = [e.value for e in heard if isinstance(e, Metric)]
    assert distances[-1] < 0.5 * distances[0]


def test_trials_do_not_influence_each_other() -> None:
    base, targets = digits().train.x[:12].view(2, 6, 1, 16, 16), digits().test.x[:2]
    config = BullseyePolytopeConfig(eps=32, step_size=4, steps=5)

    together = craft(clean_model(), base, targets, config, Context())
    alone = craft(clean_model(), base[1:], targets[1:], config, Context())

    assert int((together[1].int() - alone[0].int()).abs().max()) <= 1  # sums of floats in another order


def tiny_net() -> Classifier:
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(12, 4))
    model = Classifier(body, 4, 2, torch.full((1,), 0.4), torch.full((1,), 0.3)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, generator=derive(number, "weights"))
    return model.requires_grad_(False)


def test_gradient_equals_finite_differences() -> None:
    model, draws = tiny_net(), derive(0, "data")
    x = torch.rand(2, 2, 1, 4, 4, generator=draws, dtype=torch.float64).requires_grad_()
    target = model.features(torch.rand(2, 1, 4, 4, generator=draws, dtype=torch.float64))

    assert torch.autograd.gradcheck(lambda poisons: bullseye_loss(model, poisons, target), x)


def test_loss_is_the_relative_distance_of_the_mean_feature() -> None:
    model, draws = tiny_net(), derive(1, "data")
    x = torch.rand(1, 3, 1, 4, 4, generator=draws, dtype=torch.float64)
    target = torch.tensor([[3.0, 0.0, 0.0, 4.0]], dtype=torch.float64)

    expected = (model.features(x[0]).mean(0) - target[0]).norm() / 5
    assert bullseye_loss(model, x, target).item() == pytest.approx(expected.item(), rel=1e-12)


def test_too_many_targets_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"targets=61 asks for more than the \d+ correctly classified"):
        poison(targets=61)


def test_too_many_poisons_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"poisons=999 asks for more than the 20 training images of class 4"):
        poison(poisons=999, target_class=4)


def test_a_target_class_without_training_images_is_named() -> None:
    with pytest.raises(ValueError, match="the 0 training images of class 12"):
        poison(target_class=12)
