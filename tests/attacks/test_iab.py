"""What is special about the input-aware backdoor: each image has a trigger of its own, learned with the victim."""

from collections.abc import Iterator

import pytest
import torch
from core_helpers import attackers_view, digits, listening, network, noise_images, small
from torch import nn

from poisonlab.attacks.iab import (
    IAB,
    EncoderDecoder,
    IABConfig,
    JointTraining,
    enlarge,
    flat,
    networks,
    paint,
    sameness,
    sharpened,
    train_mask,
)
from poisonlab.context import Context, derive
from poisonlab.events import Metric
from poisonlab.models.base import Classifier, as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet, Poison

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


# VinAIResearch/input-aware-backdoor-attack-release @ 1750e4f, in float64, on the networks and images below:
# networks/models.py in train mode, row 3, columns 2 to 4 of three images that create_bd made
PUBLISHED_PAINTING = [
    [0.1166872251, 0.2753343851, 0.0878445180],
    [0.2903199894, 0.1651677035, 0.4591214533],
    [0.3644501560, 0.5962352186, 0.3227490066],
]
# train.py:237-266, 100 times the density and the diversity of four steps
PUBLISHED_MASK_LOSSES = [12.9433379330, 28.2290516051, 16.1271520108, 14.0957060140]
# train.py:47-101 in eval mode: cross-entropy and diversity, and the gradient of the last kernel, first row
PUBLISHED_LOSS = 1.3974053759 + 1.6933589989
PUBLISHED_GRADIENT = [0.2978208511, 0.2099318134, 0.5606393596]

EIGHT = noise_images(8, (1, 8, 8), 4)
MEAN, STD = torch.full((1,), 0.4), torch.full((1,), 0.25)


def drawn(name: str) -> EncoderDecoder:
    """A network of the published width whose weights every machine draws alike."""
    made = EncoderDecoder(1, 1, 32, MEAN, STD)
    draws = derive(0, "published", name)
    with torch.no_grad():
        for weight in made.parameters():
            scale = 0.25 if weight.dim() > 1 else 1.0
            weight.copy_((torch.rand(weight.shape, generator=draws, dtype=torch.float64) - 0.5) * scale)
    return made


def settled(name: str) -> EncoderDecoder:
    """The same in eval mode; its batch norms know the statistics of the images, and of nothing else."""
    made = drawn(name)
    norms = [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        made(as_floats(EIGHT.x))
    return made.eval()


def test_patterns_and_masks_are_those_of_the_repository() -> None:
    x = as_floats(EIGHT.x)
    painted = paint(x, drawn("generator")(x), sharpened(drawn("mask")(x)))[:3, 0, 3, 2:5]

    # the repository divides tanh by 2 + 1e-7
    assert torch.allclose(painted, torch.tensor(PUBLISHED_PAINTING), atol=1e-6)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Where a mask is black or white its gradient is nearly 0, and Adam makes whole steps of rounding errors."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_mask_is_trained_by_the_loss_of_the_repository(double_precision: None) -> None:
    ctx, heard = listening()
    train_mask(drawn("mask").double(), EIGHT, IABConfig(mask_epochs=10, batch_size=8), ctx)

    losses = [e.value for e in heard if isinstance(e, Metric)][:4]
    assert losses[:2] == pytest.approx(PUBLISHED_MASK_LOSSES[:2], rel=1e-5)
    assert losses == pytest.approx(PUBLISHED_MASK_LOSSES, rel=1e-3)


def test_the_loss_of_generator_and_victim_is_that_of_the_repository() -> None:
    generator, mask = settled("generator"), settled("mask")
    state = flat("generator", generator) | flat("mask", mask)
    y = torch.tensor([1, 2, 3, 1, 2, 3, 1, 2])
    poison = Poison(torch.arange(2)[None], EIGHT.x[None, :2], torch.zeros(1, 2, dtype=torch.int64), state)
    hook = JointTraining(IAB(IABConfig(cross_rate=0.25)), poison, Context())
    victim = Classifier(nn.Flatten(), 64, 4, MEAN, STD)
    draws = derive(0, "published", "victim")
    with torch.no_grad():
        for weight in victim.parameters():
            weight.copy_((torch.rand(weight.shape, generator=draws, dtype=torch.float64) - 0.5) * 0.2)
    hook.begin(victim, ImageSet(EIGHT.x, y, EIGHT.classes), steps_an_epoch=1, epochs=10)
    hook.generator.eval()

    x, labels = hook.batch(as_floats(EIGHT.x), y, torch.arange(8))
    loss = hook.backward(victim, lambda: hook.loss(victim(x), labels, 0.0))

    assert loss.item() == pytest.approx(PUBLISHED_LOSS, rel=1e-5)
    kernel = [m.weight for m in hook.generator.modules() if isinstance(m, nn.Conv2d)][-1]
    assert kernel.grad is not None
    assert kernel.grad[0, 0, 0].tolist() == pytest.approx(PUBLISHED_GRADIENT, rel=1e-4)
