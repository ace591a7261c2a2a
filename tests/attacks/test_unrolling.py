"""The derivative through K training steps: exact, and of the whole batch where batch norm couples its images."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.attacks.shared.unrolling import (
    Batch,
    LookAhead,
    Weights,
    carlini_wagner,
    consecutive,
    mixes_images,
    with_batch_statistics,
)
from poisonlab.context import derive
from poisonlab.models.base import Classifier

BATCH, POISONS = 7, torch.tensor([1, 4, 5])
both_kinds = pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "no norm"])
each_length = pytest.mark.parametrize("steps", [1, 2, 3])


def network(norm: bool) -> Classifier:
    """Smooth everywhere, in double precision, with running statistics that a forgetful test would notice."""
    middle: list[nn.Module] = [nn.BatchNorm2d(3)] if norm else []
    body = nn.Sequential(
        nn.Conv2d(2, 3, 3), *middle, nn.Softplus(), nn.Flatten(), nn.Linear(12, 4), nn.Softplus()
    )
    model = Classifier(body, 4, 3, torch.full((2,), 0.4), torch.full((2,), 0.3)).double()
    for number, weight in enumerate(model.parameters()):
        nn.init.normal_(weight, std=0.5, generator=derive(number, "weights"))
    return with_batch_statistics(model)


def setting(norm: bool, steps: int) -> tuple[LookAhead, Weights, list[Batch]]:
    draws, model = derive(0, "data"), network(norm)
    x = torch.rand(steps + 1, BATCH, 2, 4, 4, generator=draws, dtype=torch.float64)
    y = torch.randint(3, (steps + 1, BATCH), generator=draws)
    target = torch.rand(1, 2, 4, 4, generator=draws, dtype=torch.float64)
    look = LookAhead(model, target, torch.tensor([2]), lr=0.3)
    return look, {n: p.detach() for n, p in model.named_parameters()}, list(zip(x, y, strict=True))


def nested(look: LookAhead, start: Weights, batches: Sequence[Batch], poisons: Tensor) -> Tensor:
    """The mean adversarial loss after each step, with the graph of all of them: what the recursion must agree with."""

    def said(weights: Weights, x: Tensor) -> Tensor:
        return torch.func.functional_call(look.network, weights, (torch.cat([x, look.target]),))

    weights, total = {n: w.clone().requires_grad_() for n, w in start.items()}, torch.zeros(())
    for number, (x, y) in enumerate(batches):
        if number:
            total = total + carlini_wagner(said(weights, x)[-1:], look.label) / (len(batches) - 1)
        if number == len(batches) - 1:
            return total
        seen = x.index_copy(0, POISONS, poisons) if number == 0 else x
        loss = F.cross_entropy(said(weights, seen)[:-1], y)
        found = torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)
        weights = {n: w - look.lr * g for (n, w), g in zip(weights.items(), found, strict=True)}
    raise AssertionError


@both_kinds
@each_length
def test_the_recursion_equals_nested_differentiation(norm: bool, steps: int) -> None:
    look, start, batches = setting(norm, steps)
    poisons = batches[0][0][POISONS].clone().requires_grad_()
    value = nested(look, start, batches, poisons)
    (wanted,) = torch.autograd.grad(value, poisons)

    found, total, _ = look.hypergradient(start, batches, POISONS)

    assert total == pytest.approx(value.item(), rel=1e-12)
    assert (found - wanted).norm() < 1e-10 * wanted.norm()


@both_kinds
@each_length
def test_the_recursion_equals_finite_differences(norm: bool, steps: int) -> None:
    look, start, batches = setting(norm, steps)
    x, y = batches[0]
    direction = torch.zeros_like(x)
    direction[POISONS] = torch.randn(3, 2, 4, 4, generator=derive(1, "direction"), dtype=torch.float64)

    def loss(step: float) -> float:
        return look.hypergradient(start, [(x + step * direction, y), *batches[1:]], POISONS)[1].item()

    found, *_ = look.hypergradient(start, batches, POISONS)

    difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert (found * direction[POISONS]).sum().item() == pytest.approx(difference, rel=1e-6)


def test_with_batch_norm_the_poisons_alone_give_another_derivative() -> None:
    look, start, batches = setting(True, 2)
    x, y = batches[0]
    found, *_ = look.hypergradient(start, batches, POISONS)

    alone = [(x[POISONS], y[POISONS]), *batches[1:]]
    wrong = look.hypergradient(start, alone, torch.arange(3))[0] * 3 / BATCH  # a mean over 3 instead of 7

    assert F.cosine_similarity(found.flatten(), wrong.flatten(), dim=0) < 0.95


def test_the_loss_before_the_steps_is_that_of_the_start() -> None:
    look, start, batches = setting(False, 2)
    logits = torch.func.functional_call(look.network, start, (look.target,))

    assert look.hypergradient(start, batches, POISONS)[2] == pytest.approx(
        carlini_wagner(logits, look.label).item()
    )


def test_nothing_that_was_given_changes() -> None:
    look, start, batches = setting(True, 2)
    before = {n: w.clone() for n, w in start.items()}, [x.clone() for x, _ in batches]

    first, *_ = look.hypergradient(start, batches, POISONS)
    again, *_ = look.hypergradient(start, batches, POISONS)

    assert torch.equal(first, again)
    assert all(torch.equal(start[n], before[0][n]) and not start[n].requires_grad for n in start)
    assert all(torch.equal(x, then) for (x, _), then in zip(batches, before[1], strict=True))


def test_the_loss_goes_on_below_zero_and_ends_at_minus_100() -> None:
    logits, label = torch.tensor([[1.0, 2.0, 7.0]], requires_grad=True), torch.tensor([2])
    loss = carlini_wagner(logits, label)
    loss.backward()

    assert loss.item() == -5.0 and logits.grad is not None and logits.grad.tolist() == [[0.0, 1.0, -1.0]]
    assert carlini_wagner(-logits, label).item() == 6.0  # the runner-up may be negative
    assert carlini_wagner(100 * logits, label).item() == -100.0


def test_batch_statistics_are_used_in_a_copy_alone() -> None:
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
    model = Classifier(body, 12, 3, torch.zeros(2), torch.ones(2)).eval()

    copied = with_batch_statistics(model)

    assert model.body[1].running_mean is not None and not model.training
    assert copied.body[1].running_mean is None and mixes_images(copied) and not mixes_images(nn.Linear(2, 2))


def test_the_batches_after_the_last_are_the_first_ones() -> None:
    order = [torch.tensor([n]) for n in range(3)]

    assert [[int(b) for b in ahead] for ahead in consecutive(order, 3)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
