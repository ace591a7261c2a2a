"""What is special about FTrojan: two frequencies of the color, nothing of the brightness, nothing lost to 8 bits."""

import math

import pytest
import torch
from core_helpers import attackers_view, noise_images

from poisonlab.attacks.ftrojan import (
    FTrojan,
    FTrojanConfig,
    cosine_basis,
    in_colors,
    raised_frequencies,
)
from poisonlab.context import Context


def change_of_gray(magnitude: float) -> torch.Tensor:
    """What the trigger does to a gray color image of 32x32, which clips nothing; int ``(3, 32, 32)``."""
    x = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    pattern = in_colors(raised_frequencies(32, 32, magnitude), 3).float() / 255
    made = FTrojan(FTrojanConfig(magnitude=magnitude)).trigger(x, {"pattern": pattern})
    return (made.int() - x.int())[0]


def test_the_transform_is_orthonormal_and_the_published_cosine() -> None:
    basis = cosine_basis(8)

    assert torch.allclose(basis @ basis.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    assert basis[3, 2].item() == pytest.approx(math.sqrt(2 / 8) * math.cos(math.pi * 5 * 3 / 16))


@pytest.mark.parametrize("side", [16, 32])
def test_the_pattern_is_the_closed_form_and_reaches_as_far_whatever_the_side(side: int) -> None:
    i = torch.arange(side, dtype=torch.float64)
    expected = torch.zeros(side, side, dtype=torch.float64)
    for u in (side - 1, side // 2 - 1):
        wave = torch.cos(math.pi * (2 * i + 1) * u / (2 * side))
        expected += 30 * side / 32 * (2 / side) * wave[:, None] * wave[None]

    pattern = raised_frequencies(side, side, 30)

    assert torch.allclose(pattern, expected, atol=1e-4)
    assert 1.5 * 60 / 32 < pattern.abs().max().item() <= 2 * 60 / 32


@pytest.mark.parametrize("shape", [(32, 32), (16, 24), (9, 8)], ids=str)
def test_two_coefficients_are_raised_and_no_other(shape: tuple[int, int]) -> None:
    h, w = shape
    back = cosine_basis(h) @ raised_frequencies(h, w, 20) @ cosine_basis(w).T
    raised = (back.abs() > 1e-9).nonzero().tolist()

    assert raised == [[h // 2 - 1, w // 2 - 1], [h - 1, w - 1]]


def test_the_brightness_stays() -> None:
    pattern = in_colors(raised_frequencies(32, 32, 50), 3)
    brightness = 0.299 * pattern[0] + 0.587 * pattern[1] + 0.114 * pattern[2]

    assert brightness.abs().max().item() < 0.05  # of 255; the coefficients have three digits


def test_colors_change_by_as_much_as_in_floating_point_reckoned_by_hand() -> None:
    """In floats 20 gives at most 4 and 30 at most 6 of 255; the repository's rounding adds to that."""
    assert int(change_of_gray(20).abs().max()) == 4
    assert int(change_of_gray(30).abs().max()) == 6


def test_every_image_has_the_same_trigger_in_training_and_at_test_time() -> None:
    method = FTrojan(FTrojanConfig())
    view = attackers_view()
    made = method.poison(view, Context(seed=1))

    trigger = method.threat(made, 10).trigger
    assert torch.equal(made.images[0], trigger(view.train.x[made.index[0]]))
    assert not bool((view.train.y[made.index[0]] == 0).any())  # none of the target class


def test_black_and_white_are_clipped_not_wrapped() -> None:
    pattern = in_colors(raised_frequencies(32, 32, 100), 3).float() / 255
    x = noise_images(4, (3, 32, 32)).x
    x[0], x[1] = 0, 255

    change = FTrojan(FTrojanConfig()).trigger(x, {"pattern": pattern}).int() - x.int()

    assert int(change[0].min()) == 0 and int(change[1].max()) == 0
    assert int(change.abs().max()) <= math.ceil(255 * pattern.abs().max().item())
