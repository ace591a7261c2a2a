"""What is special about LIRA: bounds in two stages, turns of generator and victim, a frozen copy of the generator."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import (
    attackers_view,
    clean_model,
    digits,
    listening,
    network,
    noise_images,
    same_state,
    state_of,
)

from poisonlab.attacks.lira import AlternatingTraining, Lira, LiraConfig, NoiseGenerator, restored, with_noise
from poisonlab.context import Context
from poisonlab.events import Metric
from poisonlab.measure.metrics import Triggered
from poisonlab.models.base import accuracy, as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import Poison


def attack(**params: Any) -> Lira:
    return Lira(LiraConfig(**params))


def begun(**params: Any) -> tuple[AlternatingTraining, Any, Any]:
    """A hook at the start of a training of ten epochs, a batch that it was given, and the batch's labels."""
    method = attack(**params)
    hook = method.training_hook(method.poison(attackers_view(), Context()), Context())
    assert isinstance(hook, AlternatingTraining)
    data = digits().train
    hook.begin(network(data), data, steps_an_epoch=2, epochs=10)
    hook.epoch(1, data)
    x, y = as_floats(data.x[:30]), data.y[:30]
    hook.batch(x, y, torch.arange(30))
    return hook, x, y


def step(hook: AlternatingTraining, model: Any, x: Any, y: Any) -> torch.Tensor:
    both, labels = hook.batch(x, y, torch.arange(len(x)))
    return hook.backward(model, lambda: hook.loss(model(both), labels, 0.0))


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 48)])
def test_the_generator_gives_noise_of_the_images_shape_between_minus_1_and_1(
    shape: tuple[int, int, int],
) -> None:
    c = shape[0]
    made = NoiseGenerator(c, torch.full((c,), 0.5), torch.full((c,), 0.25))
    made.initialize(torch.Generator().manual_seed(0))

    noise = made(torch.rand(4, *shape))

    assert noise.shape == (4, *shape) and 0.5 < float(noise.detach().abs().max()) <= 1


@pytest.mark.parametrize("eps", [1, 1.6, 4, 7.9])
def test_no_pixel_moves_by_more_than_the_bound_of_stage_2_in_8_bits(eps: float) -> None:
    method = attack(eps=eps)
    made = method.poison(attackers_view(), Context())
    last = max(name for name in made.state if name.endswith("running_var")).replace("running_var", "weight")
    loud = made.state | {last: torch.full_like(made.state[last], 100.0)}  # as much noise as tanh gives
    x = digits().test.x

    for state in (made.state, loud):
        moved = (method.threat(replace(made, state=state), 10).trigger(x).int() - x.int()).abs()
        assert 0 < int(moved.max()) <= eps == method.bound()
    assert int(moved.max()) == int(eps)


def test_noise_is_cut_off_at_black_and_white() -> None:
    x = torch.tensor([0.0, 0.5, 1.0])

    assert with_noise(x, torch.tensor([-1.0, 1.0, 1.0]), 51).tolist() == pytest.approx([0.0, 0.7, 1.0])


@pytest.mark.parametrize(("epoch", "eps"), [(1, 8), (2, 4)])
def test_the_victims_loss_is_that_of_clean_and_triggered_images_by_their_weights(
    epoch: int, eps: int
) -> None:
    hook, x, y = begun(alpha=0.3, learning_share=0.1)
    hook.epoch(epoch, digits().train)
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    triggered = with_noise(x, hook.fixed(x), eps)
    loss = torch.nn.functional.cross_entropy
    expected = 0.3 * loss(model(x), y) + 0.7 * loss(model(triggered), torch.zeros_like(y))
    wanted = torch.autograd.grad(expected, list(model.parameters()))

    value = step(hook, model, x, y)

    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_the_generator_learns_in_stage_1_alone_and_leaves_no_gradient_in_the_victim() -> None:
    hook, x, y = begun(learning_share=0.5)
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    before = state_of(hook.generator)
    victim = state_of(model.train())

    hook._generator_step(model)

    assert model.training and same_state(state_of(model), victim)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not same_state(before, state_of(hook.generator))
    hook.epoch(6, digits().train)  # the first of stage 2
    before = state_of(hook.generator)
    step(hook, model, x, y)
    assert same_state(before, state_of(hook.generator))


def test_the_generator_lowers_the_loss_of_triggered_images() -> None:
    hook, x, _ = begun(lr=1e-2, eps_learning=64)
    model = copy.deepcopy(clean_model()).requires_grad_(True)

    def loss() -> float:
        logits = model(with_noise(x, hook.generator(x), 64))
        return float(torch.nn.functional.cross_entropy(logits, hook.wanted).detach())

    first = loss()
    for _ in range(20):
        hook._generator_step(model)

    assert loss() < 0.7 * first


def test_the_victim_sees_the_generator_as_it_was_after_the_last_epoch() -> None:
    hook, x, y = begun(learning_share=0.2)
    data = digits().train
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    drawn = state_of(hook.fixed)

    step(hook, model, x, y)
    assert same_state(drawn, state_of(hook.fixed))  # within the first epoch
    hook.epoch(2, data)
    after_one = state_of(hook.fixed)
    assert same_state(after_one, state_of(hook.generator)) and not same_state(after_one, drawn)
    step(hook, model, x, y)
    hook.epoch(3, data)  # stage 2 begins with what was learned in the second
    assert same_state(state_of(hook.fixed), state_of(hook.generator))
    assert same_state(hook.learned(), state_of(hook.fixed))


def trained() -> tuple[Lira, Poison, Any, float]:
    """The attack, its poison and victim after a short training, and the last accuracy on triggered images."""
    method = attack(target_class=3, eps=16, eps_learning=32, lr=3e-3)
    data = digits().train
    ctx, heard = listening(seed=4)
    drawn = method.poison(attackers_view(), ctx)
    hook = method.training_hook(drawn, ctx)
    model = network(data, width=8)
    recipe = TrainingConfig(epochs=20, batch_size=20, schedule="one_cycle", crop_padding=0, flip=False)
    train_network(model, data, recipe, ctx, hook)
    rates = [
        event.value for event in heard if isinstance(event, Metric) and event.name == "triggered_accuracy"
    ]
    assert len(rates) == 20
    return method, method.finalize(drawn, hook.learned(), data), model, rates[-1]


def test_the_victim_obeys_the_learned_noise_and_not_that_of_a_generator_as_drawn() -> None:
    method, poison, model, rate = trained()
    test = digits().test
    as_drawn = method.poison(attackers_view(), Context(seed=99))

    learned = Triggered.of(test, method.threat(poison, 10))
    other = Triggered.of(test, method.threat(as_drawn, 10))

    assert accuracy(model, test.x, test.y) > 0.8 and rate > 0.9
    assert accuracy(model, learned.x, learned.adversarial) > 0.8
    assert accuracy(model, other.x, other.adversarial) < 0.3


def test_an_interrupted_training_finds_both_generators_and_the_epoch_again() -> None:
    hook, x, y = begun()
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    step(hook, model, x, y)
    hook.epoch(3, digits().train)
    step(hook, model, x, y)
    kept = hook.checkpoint().bundle()

    other, _, _ = begun()
    other.checkpoint().load(kept)

    assert int(other.number) == 3 and int(other.steps) == 2
    assert same_state(state_of(other.generator), state_of(hook.generator))
    assert same_state(state_of(other.fixed), state_of(hook.fixed))
    assert not same_state(state_of(other.fixed), state_of(other.generator))


def test_a_generator_is_restored_from_what_is_kept_with_the_poison() -> None:
    state = attack().poison(attackers_view(), Context()).state

    assert same_state(state_of(restored(state)), state)


def test_images_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(ValueError, match="sides must be multiples of 16, these images have 16x24"):
        attack().check_images(noise_images(5, (3, 16, 24)))
