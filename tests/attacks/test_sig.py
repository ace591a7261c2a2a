"""What is special about SIG: the wave is neither wrapped nor aliased away."""

import math

import pytest
import torch
from core_helpers import attackers_view, digits, noise_images

from poisonlab.attacks.sig import SIG, SIGConfig, sinusoid
from poisonlab.context import Context


def trigger(x: torch.Tensor, **params: float) -> torch.Tensor:
    return SIG(SIGConfig(**params)).trigger(x, {})


def test_the_wave_is_the_published_formula() -> None:
    x = torch.full((1, 1, 2, 32), 100, dtype=torch.uint8)
    expected = [round(100 + 40 * math.sin(2 * math.pi * j * 6 / 32)) for j in range(32)]

    assert trigger(x)[0, 0].tolist() == [expected, expected]


def test_negative_half_waves_are_clipped_not_wrapped() -> None:
    black = torch.zeros(1, 3, 4, 16, dtype=torch.uint8)

    assert int(trigger(black).max()) <= 40


def test_values_are_rounded_where_backdoorbench_cuts_off_their_fraction() -> None:
    x = noise_images(20, (3, 32, 32)).x
    wave = 40 * torch.sin(2 * math.pi * 6 * torch.arange(32, dtype=torch.float64) / 32)
    lower = trigger(x).int() - (x + wave).clamp(0, 255).to(torch.uint8).int()

    assert lower.unique().tolist() == [0, 1]
    assert lower.double().mean().item() == pytest.approx(0.38, abs=0.03)  # as the card says


def test_only_images_of_the_target_class_are_poisoned() -> None:
    made = SIG(SIGConfig(target_class=3)).poison(attackers_view(), Context())

    assert set(made.labels.flatten().tolist()) == {3}
    assert made.budget == round(0.8 * int((digits().train.y == 3).sum()))


def test_a_wave_too_fine_for_the_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="frequency=6 needs more than 12 columns, the images have 12"):
        sinusoid(12, 0.1, 6)
