"""Lookahead against the recursion written out in numbers."""

import pytest
import torch
from torch import nn

from poisonlab.training.lookahead import Lookahead


def test_weights_follow_the_recursion_and_end_with_the_slow_ones() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ahead = Lookahead(model, total=12, decay=0.95)
    fast = slow = 0.0
    for step in range(1, 13):
        with torch.no_grad():
            model.weight += step
        fast += step
        ahead.after(step)
        if step in (5, 10):
            a = 0.95**5 * (step / 12) ** 3
            slow = slow + (1 - a) * (fast - slow)
            fast = slow
        assert model.weight.item() == pytest.approx(slow if step == 12 else fast, rel=1e-5)


def test_the_last_pull_but_one_is_the_published_one() -> None:
    assert pytest.approx(0.774, abs=5e-4) == 0.95**5


def test_statistics_of_norms_are_averaged_as_well() -> None:
    model = nn.BatchNorm2d(2)
    ahead = Lookahead(model, total=5, decay=0.95)
    model.running_mean += 1

    ahead.after(5)

    assert model.running_mean.tolist() == [0, 0] and int(model.num_batches_tracked) == 0
