"""What is special about the input-aware backdoor: each image has a trigger of its own, learned with the victim."""

import pytest
import torch
from core_helpers import attackers_view, digits, network, small

from poisonlab.attacks.iab import IAB, JointTraining, enlarge, networks, paint, sameness, sharpened
from poisonlab.context import Context, derive
from poisonlab.models.base import as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import Poison

RECIPE = TrainingConfig(epochs=1, batch_size=50, crop_padding=0, flip=False)


@pytest.fixture(scope="module")
def attack() -> IAB:
    made = small(IAB, width=4, batch_size=32, mask_epochs=3, cross_rate=0.1, mask_density=0.032)
    assert isinstance(made, IAB)
    return made


@pytest.fixture(scope="module")
def poison(attack: IAB) -> Poison:
    return attack.poison(attackers_view(), Context())


def test_the_images_are_enlarged_bilinearly() -> None:
    x = torch.rand(2, 3, 5, 4, generator=derive(0, "x"))

    assert torch.allclose(
        enlarge(x, (10, 9)), torch.nn.functional.interpolate(x, (10, 9), mode="bilinear"), atol=1e-6
    )


def test_sameness_is_the_ratio_of_the_distances() -> None:
    x, out = torch.tensor([0.0, 3.0]).view(2, 1, 1, 1), torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)

    assert sameness(x[:1], x[1:], out[:1], out[1:]).item() == pytest.approx(2)
    alike = out[:1].clone().requires_grad_()
    sameness(x[:1], x[1:], alike, out[:1]).backward()  # equal outputs: large, but with a finite gradient
    assert alike.grad is not None and bool(alike.grad.isfinite().all())


def test_an_empty_mask_changes_nothing_and_a_full_one_everything() -> None:
    x, pattern = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)

    assert torch.equal(paint(x, pattern, sharpened(torch.zeros(1, 1, 2, 2))), x)
    assert torch.allclose(paint(x, pattern, sharpened(torch.ones(1, 1, 2, 2))), pattern)


def test_the_trained_mask_is_small_and_nearly_black_and_white(attack: IAB, poison: Poison) -> None:
    mask = sharpened(networks(attack.config, poison.state)[1](as_floats(digits().test.x)))

    assert mask.mean() < 0.3 and ((mask < 0.1) | (mask > 0.9)).float().mean() > 0.7


def test_two_images_get_two_triggers(attack: IAB, poison: Poison) -> None:
    x = as_floats(digits().test.x[:2])
    generator, mask = networks(attack.config, poison.state)

    assert not torch.allclose(*generator(x).split(1), atol=0.05) and not torch.allclose(
        *mask(x).split(1), atol=0.05
    )


def test_an_image_has_the_same_trigger_in_any_company(attack: IAB, poison: Poison) -> None:
    x = digits().test.x[:6]
    among_others, alone = attack.trigger(x, poison.state)[2:4], attack.trigger(x[2:4], poison.state)

    assert (among_others.int() - alone.int()).abs().max() <= 1  # rounding


def hook_of(attack: IAB, poison: Poison) -> JointTraining:
    hook = attack.training_hook(poison, Context())
    assert isinstance(hook, JointTraining)
    return hook


def test_cross_samples_wear_another_images_trigger_and_keep_their_label(attack: IAB, poison: Poison) -> None:
    hook, data = hook_of(attack, poison), digits().train[:50]
    hook.begin(network(data), data, steps_an_epoch=1, epochs=1)
    hook.generator.eval()
    x, (true, false, others) = as_floats(data.x), hook.rows(data.y)
    changed, y = hook.batch(x, data.y, torch.arange(50))

    assert len(true) == round(hook.share * 50) and len(false) == len(others) == 5
    patterns, masks = hook.generator(x), sharpened(hook.mask(x))
    assert torch.allclose(changed[true], paint(x[true], patterns[true], masks[true]), atol=1e-5)
    assert torch.allclose(changed[false], paint(x[false], patterns[others], masks[others]), atol=1e-5)
    assert torch.equal(y[false], data.y[false]) and torch.equal(y[others], data.y[others])


def test_training_teaches_the_generator_and_leaves_the_mask(attack: IAB, poison: Poison) -> None:
    hook, data = hook_of(attack, poison), digits().train
    train_network(network(data), data, RECIPE, Context(), hook)
    settled = attack.finalize(poison, hook.learned(), data)

    assert settled.state.keys() == poison.state.keys()
    changed = {name for name in settled.state if not torch.equal(settled.state[name], poison.state[name])}
    assert any(name.startswith("generator.up") for name in changed)
    assert not [name for name in changed if name.startswith("mask.")]
    assert torch.equal(settled.images[0], attack.trigger(data.x[poison.index[0]], settled.state))


def test_a_step_lowers_the_victims_loss_through_the_generator(attack: IAB, poison: Poison) -> None:
    hook, data = hook_of(attack, poison), digits().train[:50]
    model = network(data)
    hook.begin(model, data, steps_an_epoch=1, epochs=1)
    x, y = hook.batch(as_floats(data.x), data.y, torch.arange(50))
    hook.backward(model, lambda: hook.loss(model(x), y, 0.0))

    gradients = [p.grad for p in hook.generator.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    assert any(bool(g.any()) for g in gradients if g is not None)
    assert not [p for p in hook.mask.parameters() if p.grad is not None]
