"""What is special about BadNets: the patch, its candidates, its errors."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from core_helpers import attackers_view, noise_images
from hypothesis import given
from hypothesis import strategies as st

from poisonlab.attacks.badnets import BadNets, BadNetsConfig, stamp
from poisonlab.attacks.base import AttackerView
from poisonlab.context import Context
from poisonlab.types import Backdoor, Poison


def poison(view: AttackerView | None = None, **params: Any) -> Poison:
    return BadNets(BadNetsConfig(**params)).poison(view or attackers_view(), Context())


def backdoor(**params: Any) -> Backdoor:
    attack = BadNets(BadNetsConfig(**params))
    return attack.threat(Poison(*[torch.zeros(1, 1)] * 3), 10)


def test_white_patch_fills_the_lower_right_corner_and_nothing_else() -> None:
    x = noise_images(3, (2, 8, 8)).x
    stamped = stamp(x, 3, 1, "white")

    assert bool((stamped[..., 4:7, 4:7] == 255).all())
    stamped[..., 4:7, 4:7] = x[..., 4:7, 4:7]
    assert torch.equal(stamped, x)


def test_checkerboard_alternates_black_and_white() -> None:
    patch = stamp(noise_images(1).x, 3, 0, "checkerboard")[0, 0, -3:, -3:]

    assert patch.tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 255]]


@given(st.integers(1, 16), st.integers(0, 16), st.integers(4, 20), st.integers(4, 20))
def test_a_patch_fits_or_says_which_numbers_do_not(size: int, margin: int, h: int, w: int) -> None:
    x = torch.zeros(1, 1, h, w, dtype=torch.uint8)
    if size + margin <= min(h, w):
        assert int((stamp(x, size, margin, "white") == 255).sum()) == size**2
    else:
        with pytest.raises(ValueError, match=f"patch_size={size} with margin={margin} .* {h}x{w}"):
            stamp(x, size, margin, "white")


def test_poison_rate_is_a_share_of_the_whole_training_set() -> None:
    assert poison(poison_rate=0.1).budget == round(0.1 * len(attackers_view().train))


def test_all_to_one_never_poisons_the_target_class() -> None:
    rows = poison(poison_rate=0.5, target_class=3).index[0]

    assert 3 not in attackers_view().train.y[rows].tolist()


def test_all_to_one_gives_the_target_class() -> None:
    assert set(poison(target_class=3).labels.flatten().tolist()) == {3}


def test_all_to_all_moves_every_class_to_the_next() -> None:
    made = poison(mapping="all_to_all", poison_rate=1.0)

    assert torch.equal(made.labels, (attackers_view().train.y[made.index] + 1) % 10)


def test_all_to_all_has_no_single_target() -> None:
    assert backdoor(mapping="all_to_all").target_class is None


def test_poisoned_images_carry_the_trigger_of_the_test_time() -> None:
    made = poison(pattern="checkerboard", margin=2)
    trigger = backdoor(pattern="checkerboard", margin=2).trigger

    assert torch.equal(made.images[0], trigger(attackers_view().train.x[made.index[0]]))


@pytest.mark.parametrize(("rate_of", "expected"), [("all", 20), ("non_target", 18), ("target", 2)])
def test_the_rate_counts_what_it_says(rate_of: str, expected: int) -> None:
    data = noise_images(100, classes=10)
    assert poison(replace(attackers_view(), train=data), poison_rate=0.2, rate_of=rate_of).budget == expected


def test_rate_error_names_the_numbers() -> None:
    data = noise_images(100, classes=10)
    with pytest.raises(ValueError, match="poison_rate=1.0 asks for 100 of 90 candidate images"):
        poison(replace(attackers_view(), train=data), poison_rate=1.0)


def test_a_rate_that_selects_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="poison_rate=0.0001 asks for 0 of"):
        poison(poison_rate=0.0001)


def test_target_class_error_names_the_numbers() -> None:
    with pytest.raises(ValueError, match="target_class=10 is not among the 10 classes 0 to 9"):
        poison(target_class=10)
