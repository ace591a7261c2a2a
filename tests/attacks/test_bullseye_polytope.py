"""What is special about Bullseye Polytope: the bound, the targets, the gradient."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits, listening, small, smooth_net, surrogate
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.attacks.bullseye_polytope import (
    BullseyePolytope,
    BullseyePolytopeConfig,
    bullseye_loss,
    relative_distance,
)
from poisonlab.attacks.shared.pixels import round_within
from poisonlab.context import Context, derive
from poisonlab.events import Metric
from poisonlab.models.base import as_floats, predict
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


def test_crafting_brings_the_center_of_features_to_the_target() -> None:
    base = digits().train.x[:12].view(2, 6, 1, 16, 16)
    ctx, heard = listening()
    config = BullseyePolytopeConfig(eps=64, step_size=4, steps=40)

    BullseyePolytope(config).craft([surrogate(clean_model())], base, digits().test.x[:2], ctx)

    distances = [e.value for e in heard if isinstance(e, Metric)]
    assert distances[-1] < 0.5 * distances[0]


def test_trials_do_not_influence_each_other() -> None:
    base, targets = digits().train.x[:12].view(2, 6, 1, 16, 16), digits().test.x[:2]
    attack, victims = (
        BullseyePolytope(BullseyePolytopeConfig(eps=32, step_size=4, steps=5)),
        [surrogate(clean_model())],
    )

    together = attack.craft(victims, base, targets, Context())
    alone = attack.craft(victims, base[1:], targets[1:], Context())

    assert int((together[1].int() - alone[0].int()).abs().max()) <= 1  # sums of floats in another order


def white_box(base: Tensor, targets: Tensor, eps: float, step_size: float, steps: int) -> Tensor:
    """Equation 3 on the victim's own penultimate features, written out."""
    model, x = clean_model(), base.float() / 255
    low, high = (x - eps / 255).clamp_min(0), (x + eps / 255).clamp_max(1)
    target = model.features(as_floats(targets)).detach()
    poisons = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([poisons], lr=step_size / 255)
    for _ in range(steps):
        center = model.features(poisons.flatten(0, 1)).view(*base.shape[:2], -1).mean(1)
        loss = (center - target).norm(dim=1) / target.norm(dim=1)
        (poisons.grad,) = torch.autograd.grad(loss.sum(), poisons)
        optimizer.step()
        with torch.no_grad():
            poisons.copy_(torch.minimum(torch.maximum(poisons, low), high))
    return round_within(poisons.detach(), base, eps)


def test_the_white_box_form_is_equation_3_bit_for_bit() -> None:
    base, targets = digits().train.x[:12].view(2, 6, 1, 16, 16), digits().test.x[:2]
    attack = BullseyePolytope(BullseyePolytopeConfig(eps=32, step_size=4, steps=6))

    made = attack.craft([surrogate(clean_model())], base, targets, Context())

    assert torch.equal(made, white_box(base, targets, 32, 4, 6))


@pytest.mark.parametrize("depths", [1, 2])
def test_gradient_equals_finite_differences(depths: int) -> None:
    victim, draws = surrogate(smooth_net(), depths), derive(0, "data")
    x = torch.rand(2, 2, 1, 6, 6, generator=draws, dtype=torch.float64).requires_grad_()
    target = victim.features(torch.rand(2, 1, 6, 6, generator=draws, dtype=torch.float64))

    assert len(target) == depths
    assert torch.autograd.gradcheck(lambda poisons: bullseye_loss(victim, target, poisons), x)


def test_loss_is_the_relative_distance_of_the_mean_feature() -> None:
    x = torch.rand(1, 3, 1, 6, 6, generator=derive(1, "data"), dtype=torch.float64)
    target = torch.tensor([[3.0, 0.0, 0.0, 4.0]], dtype=torch.float64)

    expected = (smooth_net().features(x[0]).mean(0) - target[0]).norm() / 5
    assert bullseye_loss(surrogate(smooth_net()), [target], x).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


def test_feature_maps_are_compared_place_by_place() -> None:
    target = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])  # 2 channels at 1x2 places, of lengths 1 and 2
    poisons = torch.zeros(1, 4, 2, 1, 2)
    poisons[..., 0] = target[:, None, ..., 0]  # the first place is met, the second missed by its whole length

    assert relative_distance(poisons, target).tolist() == [0.5]


def test_several_surrogates_count_alike() -> None:
    base, targets = digits().train.x[:6].view(1, 6, 1, 16, 16), digits().test.x[:1]
    attack = BullseyePolytope(BullseyePolytopeConfig(eps=32, step_size=4, steps=4))

    one = attack.craft([surrogate(clean_model())], base, targets, Context())
    two = attack.craft([surrogate(clean_model())] * 2, base, targets, Context())

    assert torch.equal(one, two)


def test_too_many_targets_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"targets=61 asks for more than the \d+ correctly classified"):
        poison(targets=61)


def test_too_many_poisons_names_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"poisons=999 asks for more than the 20 training images of class 4"):
        poison(poisons=999, target_class=4)


def test_a_target_class_without_training_images_is_named() -> None:
    with pytest.raises(ValueError, match="the 0 training images of class 12"):
        poison(target_class=12)
