"""Lesson: what a poison does. A few wrong points near one place move the boundary there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.lessons import networks, plane
from poisonlab.lessons.plane import Points

BUDGETS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 40)
EACH = 100  # training points of a class
TEST_EACH = 500
TARGET = (-1.1, 0.9)  # a place of class 0; the adversarial label is class 1
STEPS = 160
LR = 0.02
FRAMES = 11


@dataclass(frozen=True)
class Planted:
    """One network for each of ``BUDGETS``, all from the same random start.

    Attributes:
        train: the clean points.
        poisons: ``(40, 2)``; a budget takes the first of them.
        steps: the training steps that were kept.
        landscapes: probability of class 1, ``(steps, budgets, cells, cells)``.
        target: the same at the target, ``(steps, budgets)``.
        accuracy: on test points, at the end, ``(budgets,)``.
    """

    train: Points
    poisons: Tensor
    steps: list[int]
    landscapes: Tensor
    target: Tensor
    accuracy: Tensor

    @property
    def needed(self) -> int | None:
        """The smallest budget with which the target ends in the wrong class; ``None`` where 40 do not suffice."""
        return next((b for b, p in zip(BUDGETS, self.target[-1].tolist(), strict=True) if p > 0.5), None)


def clean_points(seed: int) -> tuple[Points, Points]:
    """Training and test points."""
    train = plane.clouds(EACH, derive(seed, "planting", "train"))
    test = plane.clouds(TEST_EACH, derive(seed, "planting", "test"))
    return train, test


def place(spread: float, seed: int) -> Tensor:
    """Poisons around the target, ``(40, 2)``; a budget takes the first of them."""
    draws = derive(seed, "planting", "poisons")
    return torch.tensor([TARGET]) + spread * torch.randn(BUDGETS[-1], 2, generator=draws)


def plant(spread: float, seed: int) -> Planted:
    """Train on clean points and on 0 to 40 poisons: places near the target, with the attacker's label.

    Args:
        spread: standard deviation of the poisons around the target, in the plane's units.
    """
    train, test = clean_points(seed)
    poisons = place(spread, seed)
    target = torch.tensor([TARGET])
    x = torch.cat([train.x, poisons])
    y = torch.cat([train.y, torch.ones(len(poisons), dtype=torch.long)])
    used = torch.arange(len(poisons)) < torch.tensor(BUDGETS)[:, None]  # (budgets, poisons)
    counts = torch.cat([torch.ones(len(BUDGETS), len(train.x)), used.float()], 1)
    start = networks.repeat(networks.draw((2, 24, 24, 2), 1, derive(seed, "planting", "start")), len(BUDGETS))
    # denser early, where more changes
    steps = [round(STEPS * (k / (FRAMES - 1)) ** 1.5) for k in range(FRAMES)]
    kept = networks.train(start, x, y, STEPS, LR, counts, steps)
    return Planted(
        train,
        poisons,
        steps,
        torch.stack([plane.landscape(w) for w in kept]),
        torch.stack([networks.probabilities(w, target)[:, 0, 1] for w in kept]),
        networks.accuracy(kept[-1], test.x, test.y),
    )
