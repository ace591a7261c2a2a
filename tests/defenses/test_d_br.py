"""What is special about D-BR: how images are turned, the loss between centers, and whose turn it is."""

import dataclasses
import math

import pytest
import torch
from core_helpers import clean_model, digits, noise_images, same_state, small, state_of
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.d_br import DBR, DBRConfig, DrivenApart, InTurns, intra_class_loss, turned
from poisonlab.events import Event, Progress
from poisonlab.models.base import evaluation_batches
from poisonlab.spec.config import SpecError, make_spec


def angles(*degrees: float) -> Tensor:
    return torch.tensor(degrees).deg2rad()


@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_a_turn_by_quarters_is_exact(quarters: int) -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    found = turned(x, angles(90.0 * quarters, 0), torch.zeros(2, 2))

    assert torch.equal(found[0], x[0].rot90(-quarters, (1, 2)))
    assert torch.equal(found[1], x[1])


@pytest.mark.parametrize("shape", [(8, 8), (4, 10)])
def test_images_are_moved_by_shares_of_a_side_and_what_was_not_there_is_black(shape: tuple[int, int]) -> None:
    h, w = shape
    x = 1 + torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w)

    found = turned(x, angles(0), torch.tensor([[2 / w, -1 / h]]))[0, 0]

    expected = torch.zeros(h, w)
    expected[: h - 1, 2:] = x[0, 0, 1:, : w - 2]
    assert torch.equal(found, expected)


def test_a_side_longer_than_the_other_is_not_bent() -> None:
    """Half a turn of an oblong image is the image read backwards; a quarter keeps distances in pixels."""
    x = torch.rand(1, 1, 4, 10, generator=torch.Generator().manual_seed(1))

    assert torch.equal(turned(x, angles(180), torch.zeros(1, 2)), x.flip(2, 3))
    quarter = turned(x, angles(90), torch.zeros(1, 2))[0, 0]
    assert torch.equal(quarter[:, 3:7], x[0, 0, :, 3:7].rot90(-1)) and not quarter[:, :3].any()


def test_the_loss_between_centers_is_that_of_three_by_hand() -> None:
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    y = torch.tensor([5, 5, 0, 2])

    loss = intra_class_loss(features, y)

    # unit centers (1, 0), (0, 1) and (1, 1) / sqrt 2; six of nine entries count
    assert loss.item() == pytest.approx((0 + 1 / math.sqrt(2) + 1 / math.sqrt(2)) * 2 / 9)
    assert intra_class_loss(features[:2], y[:2]).item() == 0


def test_the_turns_take_the_sensitive_images_up_and_the_steady_ones_down() -> None:
    data = noise_images(8)
    hook = InTurns(torch.tensor([1, 3]), torch.tensor([0, 2, 5]), limit=math.log(4))
    logits = torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 0]])
    y = torch.tensor([1, 1])

    assert torch.equal(hook.epoch(1, data).x, data.x[[1, 3]])
    assert hook.loss(logits, y, 0.0).item() == pytest.approx(-math.log(4))  # the first is beyond the limit
    assert torch.equal(hook.epoch(2, data).x, data.x[[0, 2, 5]])
    assert hook.loss(logits, y, 0.0).item() > 0


def test_its_own_network_and_its_repair_depend_on_the_seed_alone_and_change_nothing_given() -> None:
    model = clean_model()
    before = state_of(model)
    suspects = digits().train[:60]
    method = small(DBR, rounds=2)

    runs = [
        method.repair_with_suspects(model, digits().reserve[:0], suspects, Context(seed=seed))
        for seed in (3, 3, 4)
    ]

    flags = [run.findings.flags for run in runs]
    assert same_state(state_of(model), before)
    assert torch.equal(flags[0].scores, flags[1].scores) and not torch.equal(flags[0].scores, flags[2].scores)
    assert same_state(state_of(runs[0].result), state_of(runs[1].result))
    assert len(flags[0].rows) == 3 and torch.equal(
        flags[0].scores[flags[0].rows].sort(descending=True).values, flags[0].scores.topk(3).values
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clean_share": 0.8, "poisoned_share": 0.3}, "lower one of them"),
        ({"rotation": 0, "shift": 0}, "raise one of them"),
    ],
)
def test_shares_that_overlap_and_turns_that_turn_nothing_are_refused(
    values: dict[str, float], message: str
) -> None:
    given = {f"defense.{name}": value for name, value in values.items()}

    with pytest.raises(SpecError, match=message):
        make_spec("digits", "badnets", "d_br", overrides=given)
    DBRConfig(clean_share=0.5, poisoned_share=0.5, rotation=0)


def test_images_of_which_none_is_more_sensitive_are_not_told_apart_by_their_place() -> None:
    suspects = digits().train[:60]
    black = dataclasses.replace(suspects, x=torch.zeros_like(suspects.x))

    with pytest.raises(ValueError, match="no image is more sensitive"):
        small(DBR).repair_with_suspects(clean_model(), digits().reserve[:0], black, Context(seed=1))


def test_it_can_be_cancelled_while_images_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    monkeypatch.setattr("poisonlab.defenses.d_br.train_anew", lambda model, *args: model)
    method = small(DBR, intra_epochs=0)

    method.sensitivity(clean_model(), digits().train, Context(send=heard.append))

    pieces = len(evaluation_batches(digits().train.x))
    assert [(e.step, e.total) for e in heard if isinstance(e, Progress)][-1] == (pieces, pieces)


def test_centers_are_summed_in_full_precision() -> None:
    hook = DrivenApart()
    hook._note(torch.nn.Identity(), (torch.ones(2, 3, dtype=torch.bfloat16),))

    assert hook.loss(torch.zeros(0), torch.tensor([0, 1]), 0.0).dtype == torch.float32
