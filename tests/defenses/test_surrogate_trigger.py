"""The stand-in for the trigger: found in a planted backdoor, and what the rule makes of its success."""

import torch
from core_helpers import clean_model, digits, same_state, state_of
from torch import nn

from poisonlab.context import Context
from poisonlab.defenses.shared.surrogate_trigger import StandIn, choose, find_stand_ins
from poisonlab.models.base import Classifier
from poisonlab.types import ImageSet

CLEAN = digits().reserve[:30]


def planted(strength: float) -> Classifier:
    """A linear network of four classes that reads brightness of the quarters; one pixel means class 2."""
    body = nn.Flatten()
    model = Classifier(body, 64, 4, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    weights = torch.zeros(4, 8, 8)
    for quarter in range(4):
        row, column = 4 * (quarter // 2), 4 * (quarter % 2)
        weights[quarter, row : row + 4, column : column + 4] = 1
    weights[2, 0, 0] = strength
    model.head.weight.copy_(weights.flatten(1))
    model.head.bias.zero_()
    return model


def quarters(n: int = 40) -> ImageSet:
    x = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    y = torch.arange(n) % 4
    for row, label in zip(x, y.tolist(), strict=True):
        row[0, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] = 60
    x[:, :, 0, 0] = 0
    return ImageSet(x, y, ("a", "b", "c", "d"))


def test_a_planted_shortcut_is_found_with_its_class_and_place() -> None:
    model, images = planted(40.0), quarters()
    found = next(found for found in find_stand_ins(model, images, Context()) if found.target == 2)

    assert found.success(model, images) >= 0.9
    assert int(found.pattern.abs().flatten().argmax()) == 0
    assert found.success(planted(0.0), images) < found.success(model, images)


def test_the_search_changes_nothing_and_is_repeatable() -> None:
    before = state_of(clean_model())
    first, again = (find_stand_ins(clean_model(), CLEAN, Context(seed=3)) for _ in range(2))

    assert same_state(state_of(clean_model()), before)
    assert [f.target for f in first] == [f.target for f in again]
    assert all(torch.equal(f.pattern, g.pattern) for f, g in zip(first, again, strict=True))


def test_each_class_has_one_pattern_at_most() -> None:
    targets = [found.target for found in find_stand_ins(clean_model(), CLEAN, Context())]

    assert 1 <= len(targets) <= 2 and len(set(targets)) == len(targets)


def test_no_pattern_has_no_success_on_other_classes_than_its_own() -> None:
    model, images = planted(40.0), quarters()

    assert StandIn(torch.zeros(1, 1, 8, 8), 2).success(model, images) == 0


def test_the_rule_weighs_what_is_left_against_what_it_costs() -> None:
    success = torch.tensor([[0.80, 0.64, 0.12, 0.04, 0.00]])
    lost = torch.tensor([0.00, 0.01, 0.03, 0.04, 0.40])

    assert [choose(success, price * lost)[1] for price in (0, 5, 15, 100)] == [4, 3, 2, 0]
    assert choose(torch.zeros(1, 3), torch.zeros(3)) == (0, 0)  # a tie: the weakest


def test_the_pattern_that_goes_most_cheaply_decides() -> None:
    honest, backdoor = [0.9, 0.9, 0.8, 0.7], [0.9, 0.5, 0.05, 0.04]
    lost = torch.tensor([0.00, 0.01, 0.02, 0.08])

    assert choose(torch.tensor([honest, backdoor]), 5 * lost) == (1, 2)
    assert choose(torch.tensor([backdoor, honest]), 5 * lost) == (0, 2)
