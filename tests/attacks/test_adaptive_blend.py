"""What is special about Adaptive-Blend: half a picture in training, payload and cover, the whole one at test time."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, digits

from poisonlab.attacks.adaptive_blend import AdaptiveBlend, AdaptiveBlendConfig, piece_masks
from poisonlab.attacks.blend import drawing
from poisonlab.context import Context
from poisonlab.types import Poison

RATES = {"poison_rate": 0.1, "cover_rate": 0.2}


def made(**params: Any) -> Poison:
    return AdaptiveBlend(AdaptiveBlendConfig(**(RATES | params))).poison(attackers_view(), Context(seed=1))


@pytest.mark.parametrize("side", [16, 32, 30])
def test_exactly_half_of_sixteen_whole_pieces_is_shown_another_half_in_each_image(side: int) -> None:
    masks = piece_masks(50, (3, side, side), 4, 0.5, torch.Generator().manual_seed(0))
    edges = [-(-piece * side // 4) for piece in range(5)]
    corners = masks[:, 0][:, edges[:4]][:, :, edges[:4]].flatten(1)

    assert corners.sum(1).tolist() == [8] * 50
    assert len({tuple(row) for row in corners.tolist()}) > 40
    for top, bottom in zip(edges, edges[1:], strict=False):
        block = masks[:, 0, top:bottom, top:bottom].flatten(1)
        assert bool((block == block[:, :1]).all())


def test_payload_is_relabeled_cover_keeps_its_labels_and_no_row_is_both() -> None:
    train, poison = digits().train, made(target_class=3)
    payload = round(0.1 * len(train))

    assert poison.budget == payload + round(0.2 * len(train))
    assert len(poison.index[0].unique()) == poison.budget
    assert set(poison.labels[0, :payload].tolist()) == {3}
    assert torch.equal(poison.labels[0, payload:], train.y[poison.index[0, payload:]])
    assert len(train.y[poison.index[0, :payload]].unique()) > 5  # of all classes


def test_training_images_get_the_picture_where_the_mask_shows_it() -> None:
    train, poison = digits().train, made(alpha=0.5)
    x = train.x[poison.index[0]].float()
    whole = 0.5 * x + 0.5 * drawing(train.shape).float()
    changed = (poison.images[0] != train.x[poison.index[0]]).float()

    assert 0.3 < changed.mean().item() < 0.55
    wrong = (poison.images[0].float() - whole).abs() * changed
    assert wrong.max().item() <= 0.5


def test_the_whole_picture_is_shown_at_test_time_by_its_own_weight() -> None:
    attack = AdaptiveBlend(AdaptiveBlendConfig(**RATES, alpha_test=0.4))
    x = digits().test.x[:5]

    triggered = attack.threat(made(), 10).trigger(x)

    expected = 0.6 * x.float() + 0.4 * drawing(digits().train.shape).float()
    assert (triggered.float() - expected).abs().max().item() <= 0.5


def test_a_share_that_is_less_than_one_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="ask for 0 and .* raise attack.poison_rate"):
        made(poison_rate=1e-6)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"pieces": 1, "masked": 0.6}, "masked=0.6 leaves out all 1 pieces"),
        ({"pieces": 4, "masked": 0.99}, "masked=0.99 leaves out all 16 pieces"),
        ({"pieces": 32}, "pieces=32 cuts a side of 16 pixels into more pieces"),
    ],
)
def test_a_picture_of_which_nothing_is_shown_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AdaptiveBlend(AdaptiveBlendConfig(**params)).check_images(digits().train)
