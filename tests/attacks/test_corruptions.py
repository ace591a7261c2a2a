"""Wrong labels and spoilt images: who is hit, and by what."""

from typing import Any

import pytest
import torch
from core_helpers import attackers_view, small
from torch import Tensor

from poisonlab.attacks.input_corruption import InputCorruption, gaussian, salt_and_pepper
from poisonlab.attacks.label_noise import LabelNoise, partners
from poisonlab.context import Context, derive


def flipped(**params: Any) -> tuple[Tensor, Tensor, Tensor]:
    """True labels, given labels of the flipped rows, and the rows, at a rate of 0.4."""
    train = attackers_view().train
    poison = small(LabelNoise, poison_rate=0.4, **params).poison(attackers_view(), Context(seed=1))
    assert torch.equal(poison.images[0], train.x[poison.index[0]])
    return train.y[poison.index[0]], poison.labels[0], poison.index[0]


def test_pairs_exchange_look_alikes_and_touch_no_other_class() -> None:
    true, given, rows = flipped(kind="pair", pairs="1-7 3-8 4-9")

    seen = set(zip(true.tolist(), given.tolist(), strict=True))
    assert seen == {(1, 7), (7, 1), (3, 8), (8, 3), (4, 9), (9, 4)}
    affected = torch.isin(attackers_view().train.y, true.unique()).sum()
    assert len(rows) == round(0.4 * int(affected))


def test_symmetric_noise_hits_all_classes_and_never_gives_the_true_label() -> None:
    true, given, rows = flipped(kind="symmetric")

    assert len(rows) == round(0.4 * len(attackers_view().train)) and not bool((true == given).any())
    assert set(true.tolist()) == set(given.tolist()) == set(range(10))


def test_neighbors_are_pairs_and_an_odd_class_has_none() -> None:
    assert partners("neighbors", 5).tolist() == [1, 0, 3, 2, -1]


@pytest.mark.parametrize(
    ("pairs", "message"), [("1-7 7-9", "a class twice"), ("1,7", "must look like"), ("1-12", "is not among")]
)
def test_pairs_that_cannot_be_say_why(pairs: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partners(pairs, 10)


def test_spoilt_images_keep_their_labels_and_come_from_few_classes() -> None:
    train = attackers_view().train
    poison = small(InputCorruption, poison_rate=0.5, affected_classes=3).poison(
        attackers_view(), Context(seed=1)
    )

    assert torch.equal(poison.labels[0], train.y[poison.index[0]]) and len(poison.labels.unique()) == 3
    assert not torch.equal(poison.images[0], train.x[poison.index[0]])


def test_noise_has_the_asked_strength() -> None:
    gray = torch.full((50, 3, 16, 16), 128, dtype=torch.uint8)
    pepper, noisy = salt_and_pepper(gray, 0.3, derive(0, "a")), gaussian(gray, 0.1, derive(0, "b"))

    changed = (pepper != 128).all(1)
    assert torch.equal(changed, (pepper != 128).any(1))  # all channels of a pixel
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert set(pepper.unique().tolist()) == {0, 128, 255}
    assert float((noisy.float() / 255).std()) == pytest.approx(0.1, abs=0.005)
