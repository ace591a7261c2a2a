"""What is special about Sleeper Agent: a patch at a random place, none in training, which images carry the noise."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits, listening, small
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.shared.alignment import parameter_gradient
from poisonlab.attacks.sleeper_agent import (
    SleeperAgent,
    SleeperAgentConfig,
    free_places,
    gradient_norms,
    mean_gradient,
    own_places,
    stamped,
)
from poisonlab.context import Context
from poisonlab.events import Metric
from poisonlab.measure.metrics import Triggered
from poisonlab.models.base import Classifier, as_floats
from poisonlab.types import ImageSet, Poison


def attack(**params: Any) -> SleeperAgent:
    made = small(SleeperAgent, target_class=3, poison_rate=0.05, **params)
    assert isinstance(made, SleeperAgent)
    return made


def poison(seed: int = 1, **params: Any) -> Poison:
    return attack(**params).poison(attackers_view(), Context(seed=seed))


def test_a_patch_lies_where_it_is_put_in_each_image_and_nowhere_else() -> None:
    x = torch.zeros(3, 2, 6, 5, dtype=torch.uint8)
    patch = torch.arange(1, 9, dtype=torch.uint8).view(2, 2, 2)
    rows, columns = torch.tensor([0, 4, 2]), torch.tensor([0, 3, 1])

    out = stamped(x, patch, rows, columns)

    for image, row, column in zip(out, rows.tolist(), columns.tolist(), strict=True):
        assert torch.equal(image[:, row : row + 2, column : column + 2], patch)
    assert int((out != 0).sum()) == 3 * 8 and not bool(x.any())


def test_an_image_has_its_patch_at_one_place_whatever_comes_with_it_and_places_are_spread_evenly() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randint(256, (4000, 3, 16, 16), generator=draws, dtype=torch.uint8)
    patch = torch.zeros(3, 4, 4)

    rows, columns = own_places(x, patch)
    again, _ = own_places(x[100:200], patch)

    assert torch.equal(rows[100:200], again)
    counts = torch.bincount(rows * 13 + columns, minlength=169)
    assert free_places(x, patch) == (13, 13)
    assert len(counts) == 169 and int(counts.min()) > 5 and int(counts.max()) < 50  # 24 on average


def test_norms_are_those_of_each_image_alone() -> None:
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    data = digits().train[:20]

    norms = gradient_norms(model, data.x, data.y)

    for row in range(20):
        loss = F.cross_entropy(model(as_floats(data.x[row : row + 1])), data.y[row : row + 1])
        parts = torch.autograd.grad(loss, list(model.parameters()))
        expected = sum(float(part.square().sum()) for part in parts) ** 0.5
        assert norms[row].item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_gradient_by_batches_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(clean_model()).requires_grad_(True)
    x = digits().train.x[:25]
    whole = parameter_gradient(model, as_floats(x), torch.full((25,), 3))
    monkeypatch.setattr("poisonlab.attacks.sleeper_agent.EVALUATION_BATCH", 10)

    parts = mean_gradient(model, x, 3)

    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(parts, whole, strict=True))
    assert max(float(part.abs().max()) for part in parts) > 1e-2


def test_poisons_are_the_images_of_the_target_class_with_the_largest_gradients() -> None:
    train, made = digits().train, poison()
    own = (train.y == 3).nonzero().squeeze(1)
    norms = gradient_norms(copy.deepcopy(clean_model()).requires_grad_(True), train.x[own], train.y[own])

    expected = own[norms.argsort(descending=True)[: made.budget]]

    assert made.budget == round(0.05 * len(train)) < len(own)
    assert torch.equal(made.index[0], expected)


@pytest.mark.parametrize("eps", [1, 7.9, 16])
def test_no_poison_carries_the_patch_all_keep_their_label_and_the_bound(eps: float) -> None:
    train, made = digits().train, poison(eps=eps, step_size=1)
    moved = (made.images.int() - train.x[made.index].int()).abs()

    assert 0 < int(moved.max()) <= eps
    assert set(made.labels.flatten().tolist()) == {3}
    assert torch.equal(made.labels, train.y[made.index])


def test_success_is_counted_on_patched_images_of_the_source_class_alone() -> None:
    test, made = digits().test, poison(source_class=7)
    threat = attack(source_class=7).threat(made, 10)

    triggered = Triggered.of(test, threat)

    assert set(triggered.true.tolist()) == {7} and set(triggered.adversarial.tolist()) == {3}
    assert len(triggered.x) == int((test.y == 7).sum())
    patch = made.state["patch"]
    rows, columns = own_places(test.x[test.y == 7], patch)
    for image, row, column in zip(triggered.x, rows.tolist(), columns.tolist(), strict=True):
        assert torch.equal(image[:, row : row + 4, column : column + 4], patch)


def test_without_a_source_class_the_seed_draws_one_that_is_not_the_target() -> None:
    drawn = {int(poison(seed, steps=0).state["source_class"]) for seed in range(12)}

    assert len(drawn) > 3 and 3 not in drawn


def crafted(**params: Any) -> tuple[list[float], list[ImageSet], Poison]:
    """The losses reported, the sets that surrogates were trained on, and the poison."""
    seen: list[ImageSet] = []

    def surrogate(number: int, images: ImageSet, recipe: Any) -> Classifier:
        assert number == len(seen)
        seen.append(images)
        return clean_model()

    ctx, heard = listening(seed=1)
    made = attack(**params).poison(replace(attackers_view(), surrogate=surrogate), ctx)
    return [event.value for event in heard if isinstance(event, Metric)], seen, made


def test_crafting_aligns_the_gradient_of_the_poisons_with_that_of_the_patch() -> None:
    losses, _, _ = crafted(source_class=8, steps=30, eps=48, retrain_every=100)

    assert losses[-1] < 0.6 * losses[0]


def test_the_surrogate_is_trained_anew_on_the_poisons_as_they_are() -> None:
    _, seen, made = crafted(steps=6, retrain_every=2, eps=32)
    train = digits().train
    rows = made.index[0]

    assert len(seen) == 3  # at the start, after 2 and after 4 steps; not after the last
    assert torch.equal(seen[0].x, train.x)
    changes = [(images.x[rows].int() - train.x[rows].int()).abs().max() for images in seen[1:]]
    assert all(0 < int(change) <= 32 for change in changes)
    assert not torch.equal(seen[1].x[rows], seen[2].x[rows])
    assert not torch.equal(seen[2].x[rows], made.images[0])
    others = torch.ones(len(train), dtype=torch.bool)
    others[rows] = False
    assert torch.equal(seen[2].x[others], train.x[others]) and torch.equal(seen[2].y, train.y)


def test_the_gradient_that_is_wanted_is_of_source_images_with_the_patch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Tensor] = []

    def note(model: Classifier, x: Tensor, label: int) -> tuple[Tensor, ...]:
        assert label == 3
        seen.append(x)
        return mean_gradient(model, x, label)

    monkeypatch.setattr("poisonlab.attacks.sleeper_agent.mean_gradient", note)
    made = poison(source_class=7, sources=9, steps=0)

    (x,) = seen
    sevens = digits().train.x[digits().train.y == 7]
    patch = made.state["patch"]
    corners = x.unfold(2, 4, 1).unfold(3, 4, 1)  # (n, c, rows, columns, 4, 4)
    holds = (corners == patch[:, None, None]).flatten(4).all(-1).all(1).flatten(1)
    assert len(x) == 9 and bool(holds.any(1).all())
    assert len({int(row.float().argmax()) for row in holds}) > 4  # at places of their own
    differ = (x[:, None] != sevens[None]).flatten(2).sum(2).min(1).values
    assert int(differ.max()) <= 16  # each is a seven but for the patch


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"patch_size": 17}, "patch_size=17 is larger than a side of 16 pixels"),
        ({"source_class": 3, "target_class": 3}, "source_class=3 is the target class"),
        ({"poison_rate": 0.5}, "poison_rate=0.5 asks for 100 of 20 candidate images; lower"),
        ({"poison_rate": 1e-4}, "poison_rate=0.0001 asks for 0 of 20 candidate images; raise"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SleeperAgent(SleeperAgentConfig(**params)).check_images(digits().train)
