"""The one training loop: the same numbers twice, every row once, augmentation, rates, divergence."""

from typing import Any

import pytest
import torch
from core_helpers import listening, network, noise_images, same_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.events import Event, Metric, Progress
from poisonlab.spec.config import HeadConfig, TrainingConfig
from poisonlab.training import loop
from poisonlab.training.loop import (
    Diverged,
    HeadStack,
    Minimizer,
    TrainingHook,
    batches,
    steps_in_epoch,
    train_heads,
    train_network,
)


def trained(
    seed: int = 0, send: Any = lambda event: None, hook: TrainingHook | None = None, **recipe: Any
) -> nn.Module:
    data = noise_images()
    model = network(data, width=8)
    config = TrainingConfig(**{"epochs": 2, "batch_size": 10, "crop_padding": 1} | recipe)
    train_network(model, data, config, Context(seed=seed, send=send), hook)
    return model


def test_the_same_seed_gives_identical_weights() -> None:
    assert same_state(trained().state_dict(), trained().state_dict())


def test_another_seed_gives_other_weights() -> None:
    assert not same_state(trained(0).state_dict(), trained(1).state_dict())


def test_global_randomness_does_not_matter() -> None:
    first = trained().state_dict()
    torch.rand(7)

    assert same_state(first, trained().state_dict())


def test_training_learns_and_ends_in_eval_mode() -> None:
    data = noise_images()
    model = trained(epochs=15, crop_padding=0, flip=False)

    with torch.inference_mode():
        right = (model(data.x / 255).argmax(1) == data.y).float().mean()
    assert not model.training and right > 0.9


@given(st.integers(1, 300), st.integers(1, 80))
def test_batches_cover_every_row_once_an_epoch(n: int, size: int) -> None:
    steps = list(batches(n, size, 2, derive(0, "batches")))
    first = steps[: steps_in_epoch(n, size)]

    assert len(steps) == 2 * steps_in_epoch(n, size)
    assert sorted(torch.cat(first).tolist()) == list(range(n))
    lengths = {len(step) for step in steps}
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= size or (size == 2 and lengths <= {2, 3})
    assert 1 not in lengths or 1 in (n, size)  # batch norm has no variance of one


def test_epochs_come_in_different_orders() -> None:
    first, second = batches(50, 50, 2, derive(0, "batches"))

    assert not torch.equal(first, second)


class Broken(TrainingHook):
    """The loss is NaN from the fifth step on."""

    def __init__(self) -> None:
        self.step = 0

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        self.step += 1
        return super().loss(logits, y, label_smoothing) * (float("nan") if self.step >= 5 else 1)


def test_a_loss_that_is_no_number_stops_training_and_says_where() -> None:
    with pytest.raises(Diverged, match="became nan at step 5 of 8; lower the learning rate"):
        trained(hook=Broken())


def test_a_huge_learning_rate_is_caught() -> None:
    with pytest.raises(Diverged, match="lower the learning rate"):
        trained(lr=10.0, momentum=0.99, weight_decay=0.1, epochs=100, crop_padding=0)


def test_loss_is_reported_as_mean_since_the_last_report() -> None:
    class Counting(TrainingHook):
        step = 0

        def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
            self.step += 1
            return logits.sum() * 0 + self.step

    heard: list[Any] = []
    trained(send=heard.append, epochs=51, batch_size=10, hook=Counting())  # 204 steps, a report every 2

    losses = {e.step: e.value for e in heard if isinstance(e, Metric)}
    assert losses[2] == 1.5 and losses[204] == 203.5


def test_a_hook_may_take_a_second_pass_for_its_gradient() -> None:
    class Doubled(TrainingHook):
        def backward(self, model: nn.Module, forward: Any) -> Tensor:
            assert all(p.grad is None for p in model.parameters())
            return super().backward(model, lambda: forward() / 2) + super().backward(
                model, lambda: forward() / 2
            )

    plain, halves = (
        trained(weight_decay=0.0).state_dict(),
        trained(weight_decay=0.0, hook=Doubled()).state_dict(),
    )
    parameters = [name for name in plain if "running" not in name and "num_batches" not in name]

    assert all(torch.allclose(plain[name], halves[name], atol=1e-5) for name in parameters)


def test_progress_reaches_the_end() -> None:
    heard: list[Any] = []
    trained(send=heard.append)

    last = [e for e in heard if isinstance(e, Progress)][-1]
    assert last.step == last.total == 8


def test_a_cancel_comes_out_of_training() -> None:
    class Stop(Exception):
        pass

    def refuse(event: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        trained(send=refuse)


def test_a_hook_sees_each_batch_with_its_rows() -> None:
    data = noise_images()

    class Watch(TrainingHook):
        def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            assert torch.equal(y, data.y[index]) and x.dtype == torch.float32
            assert torch.equal((x * 255).round().to(torch.uint8), data.x[index])
            return x, y

    trained(crop_padding=0, flip=False, hook=Watch())


# -- linear heads -------------------------------------------------------------------------------------


def head_problem(trials: int = 3) -> tuple[Tensor, Tensor]:
    features = torch.randn(trials, 40, 6, generator=derive(0, "features"))
    return features, features[..., :3].argmax(2)


def test_a_stack_of_heads_equals_each_trained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y = head_problem()
    config = HeadConfig(epochs=5, batch_size=16)
    starts = HeadStack(3, 6, 3, derive(0, "start")).weight.detach()

    def train(trial: slice) -> HeadStack:
        def begin(trials: int, d: int, classes: int, generator: torch.Generator) -> HeadStack:
            stack = HeadStack(trials, d, classes, generator)
            with torch.no_grad():
                stack.weight.copy_(starts[trial])
            return stack

        monkeypatch.setattr(loop, "HeadStack", begin)
        return train_heads(features[trial], y[trial], 3, config, Context())

    together = train(slice(0, 3))
    for t in range(3):
        alone = train(slice(t, t + 1))
        assert torch.allclose(together.weight[t], alone.weight[0], atol=1e-5)
        assert torch.allclose(together.bias[t], alone.bias[0], atol=1e-5)


def test_heads_learn_their_labels() -> None:
    features, y = head_problem()
    heads = train_heads(features, y, 3, HeadConfig(epochs=40, batch_size=16), Context())

    logits = heads(features.transpose(0, 1)).transpose(0, 1)
    assert (logits.argmax(2) == y).float().mean() > 0.95


def test_heads_are_the_same_for_the_same_seed() -> None:
    features, y = head_problem()
    first, again = (train_heads(features, y, 3, HeadConfig(epochs=2), listening(5)[0]) for _ in range(2))

    assert torch.equal(first.weight, again.weight)


def test_steps_without_a_batch_change_the_learning_rate_alone() -> None:
    weight = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    events: list[Event] = []
    minimizer = Minimizer(weight, optimizer, schedule, 4, Context(send=events.append))

    minimizer.step(lambda: weight(torch.ones(1, 1)).sum())
    after_a_step = weight.weight.clone()
    minimizer.pass_over(3)

    assert torch.equal(weight.weight, after_a_step)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert [(e.step, e.total) for e in events if isinstance(e, Progress)][-1] == (4, 4)


class GradientOfOnes(TrainingHook):
    def backward(self, model: nn.Module, forward: Any) -> Tensor:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        return torch.zeros(())


@pytest.mark.parametrize(
    ("nesterov", "moved"),
    [(True, 0.1 * (1.9 + 2.71)), (False, 0.1 * (1 + 1.9))],  # 1 + 0.9 v after v = 1, 1.9; v itself
)
def test_two_steps_along_a_constant_gradient(nesterov: bool, moved: float) -> None:
    recipe = {"epochs": 1, "batch_size": 20, "schedule": "constant", "weight_decay": 0.0}
    start = network(noise_images(), width=8)
    after = trained(hook=GradientOfOnes(), nesterov=nesterov, **recipe)

    for before, now in zip(start.parameters(), after.parameters(), strict=True):
        assert torch.allclose(before - now, torch.full_like(before, moved), atol=1e-6)
