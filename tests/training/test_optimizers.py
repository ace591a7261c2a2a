"""Learning rates over the steps, and the biases of norms with a rate of their own."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from core_helpers import network, noise_images
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from poisonlab.spec.config import FineTuneConfig, HeadConfig, TrainingConfig
from poisonlab.training.optimizers import falling, learning_rate, parameter_groups, triangle


def walked(optimizer: torch.optim.Optimizer, schedule: LRScheduler, total: int) -> list[float]:
    """The rate of each step."""
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def rates(schedule: str, total: int, **recipe: str) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    steps = learning_rate(optimizer, TrainingConfig(lr=0.4, schedule=schedule, **recipe), total)
    return walked(optimizer, steps, total)


def test_cosine_falls_from_the_peak_to_nearly_nothing() -> None:
    seen = rates("cosine", 100)

    assert seen[0] == pytest.approx(0.4) and seen[50] == pytest.approx(0.2) and seen[-1] < 0.001
    assert seen == sorted(seen, reverse=True)


def test_one_cycle_rises_to_the_peak_and_falls() -> None:
    seen = rates("one_cycle", 100)

    assert max(seen) == pytest.approx(0.4, rel=0.01) and 25 < seen.index(max(seen)) < 35
    assert seen[0] < 0.02 and seen[-1] < 0.005


def test_steps_fall_at_the_published_epochs_of_gradient_matching() -> None:
    """40 epochs of 391 steps, divided by 10 at 14, 24 and 35."""
    seen = rates("steps", 40 * 391, drops="0.35, 0.6, 0.875")
    falls = [i for i in range(1, len(seen)) if seen[i] != seen[i - 1]]

    assert falls == [14 * 391, 24 * 391, 35 * 391]
    assert [seen[i] for i in [0, *falls]] == pytest.approx([0.4, 0.04, 0.004, 0.0004])


def stepped(make: Callable[[torch.optim.Optimizer], LRScheduler], total: int) -> list[float]:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-4)
    return walked(optimizer, make(optimizer), total)


@pytest.mark.parametrize("total", [4, 5, 7, 40, 391, 1173])
def test_the_usual_drops_give_the_rates_of_older_records(total: int) -> None:
    """To the last bit."""
    marks = {
        HeadConfig: [total // 2, total * 3 // 4],
        FineTuneConfig: [total // 4, total // 2, total * 3 // 4],
    }

    for config, at in marks.items():
        before = stepped(partial(MultiStepLR, milestones=at), total)
        assert stepped(partial(falling, drops=config().drops, total=total), total) == before


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "triangle", "steps"])
def test_a_single_step_is_enough_for_a_schedule(schedule: str) -> None:
    assert len(rates(schedule, 1)) == 1


def test_a_triangle_has_the_published_corners() -> None:
    seen = rates("triangle", 476)  # steps of airbench94

    assert seen[0] == pytest.approx(0.2 * 0.4) and max(seen) == pytest.approx(0.4)
    assert seen.index(max(seen)) == 109  # 23 % of 476
    assert triangle(476, 0.23)(476) == pytest.approx(0.07)


def test_biases_of_norms_learn_faster_and_decay_alike() -> None:
    model = network(noise_images(), width=8)
    recipe = TrainingConfig(lr=1.5, weight_decay=1.33e-3, norm_bias_factor=64)
    others, biases = parameter_groups(model, recipe)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]

    assert [id(p) for p in biases["params"]] == [id(norm.bias) for norm in norms]
    assert len(others["params"]) + len(biases["params"]) == len(list(model.parameters()))
    assert biases["lr"] == 96 and biases["lr"] * biases["weight_decay"] == pytest.approx(1.5 * 1.33e-3)


def test_without_a_factor_there_is_one_group() -> None:
    (group,) = parameter_groups(network(noise_images(), width=8), TrainingConfig())

    assert set(group) == {"params"}
