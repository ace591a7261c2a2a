"""What is special about SAU: adversarial examples that two networks share, and what is unlearned of them."""

import copy
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, small
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.sau import SAU, SAUConfig, SharedAttack, jensen_shannon, unlearning_loss
from poisonlab.models.base import as_floats


def some() -> tuple[Tensor, Tensor]:
    data = digits().reserve[:30]
    return as_floats(data.x), data.y


def config(**params: Any) -> SAUConfig:
    return SAUConfig(**({"eps": 0.2, "step": 0.2, "inner_steps": 3} | params))


def test_the_divergence_is_symmetric_zero_of_equals_and_log_two_of_opposites() -> None:
    p, q = torch.tensor([[0.7, 0.3], [1.0, 0.0]]), torch.tensor([[0.2, 0.8], [0.0, 1.0]])

    assert jensen_shannon(p, p).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert jensen_shannon(p, q).tolist() == pytest.approx(jensen_shannon(q, p).tolist())
    assert jensen_shannon(p, q)[1].item() == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-4)


def test_the_first_step_of_equal_networks_follows_the_adversarial_loss_alone() -> None:
    """The divergence of a network from itself is 0, and so is its slope."""
    model = clean_model()
    x, y = some()
    delta = torch.full_like(x, 0.2).requires_grad_()
    logits = model(x + delta)
    still = logits.argmax(1) == model(x).argmax(1)
    (slope,) = torch.autograd.grad((F.cross_entropy(logits, y, reduction="none") * still).sum(), delta)

    found = SharedAttack(copy.deepcopy(model), config(inner_steps=1)).examples(model, x, y)

    expected = (0.2 + 0.2 * slope.sign()).clamp(-0.2, 0.2)
    moved = (found - x)[still]
    agree = torch.isclose(moved, expected[still], atol=1e-5).float().mean().item()
    assert agree > 0.97  # rounding decides where the slope is nearly 0


def test_no_pixel_is_moved_beyond_the_radius_and_images_may_leave_their_range() -> None:
    x, y = some()
    examples = SharedAttack(clean_model(), config(eps=0.1, step=0.07)).examples(clean_model(), x, y)

    assert (examples - x).abs().max().item() <= 0.1 + 1e-6
    assert float(examples.max()) > 1


def test_what_the_given_network_is_led_to_is_unlearned_and_nothing_else() -> None:
    model, given = clean_model(), clean_model()
    x, y = some()
    examples = SharedAttack(given, config(inner_steps=5)).examples(model, x, y)
    led_to, before = given(examples).argmax(1), given(x).argmax(1)
    concerned = (led_to != y) & (led_to != before)
    assert bool(concerned.any())

    found = unlearning_loss(model, given, x, examples, y, config(lambda_1=0, lambda_3=1))

    likely = model(examples).softmax(1)[torch.arange(len(y)), led_to]
    assert found.item() == pytest.approx(
        -(1 - likely[concerned]).clamp_min(1e-6).log().sum().item() / len(y), rel=1e-4
    )


def test_untouched_examples_leave_the_loss_on_clean_images() -> None:
    model = clean_model()
    x, y = some()

    found = unlearning_loss(model, model, x, x, y, config())

    assert found.item() == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)


def test_running_statistics_stay_as_they_are() -> None:
    before = clean_model().state_dict()
    after = small(SAU).repair(clean_model(), digits().reserve[:20], Context()).model(clean_model())

    for name, value in after.state_dict().items():
        if "running" in name:
            assert torch.equal(value, before[name]), name
