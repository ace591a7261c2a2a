"""What is special about BppAttack: few values a channel, a small change, negatives that keep their label."""

import math
from typing import Any

import pytest
import torch
from core_helpers import attackers_view, digits, network

from poisonlab.attacks.bpp import Bpp, BppConfig, ContrastivePoisoning, dithered, quantized
from poisonlab.context import Context
from poisonlab.models.base import as_floats

EVERY_VALUE = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)


def attack(**params: Any) -> Bpp:
    return Bpp(BppConfig(**params))


@pytest.mark.parametrize("levels", [2, 8, 32])
def test_quantizing_leaves_so_many_values_and_changes_nothing_twice(levels: int) -> None:
    x = as_floats(EVERY_VALUE)
    coarse = quantized(x, levels)

    assert len(coarse.unique()) == levels
    assert torch.allclose(quantized(coarse, levels), coarse)


@pytest.mark.parametrize("levels", [2, 8, 32])
def test_no_pixel_changes_by_more_than_half_a_step(levels: int) -> None:
    change = (attack(levels=levels).trigger(EVERY_VALUE, {}).int() - EVERY_VALUE.int()).abs().max().item()

    assert change <= 255 / (2 * (levels - 1)) + 0.5
    bound = attack(levels=levels).bound()
    assert bound is not None and change <= bound


def test_eight_levels_are_as_visible_as_reckoned_by_hand() -> None:
    change = attack().trigger(EVERY_VALUE, {}).float() - EVERY_VALUE.float()

    psnr = 20 * math.log10(255) - 10 * math.log10(change.square().mean().item())
    assert psnr == pytest.approx(27.7, abs=0.1)  # a step of 36.4, so an error of up to 18.2


def test_dithering_keeps_the_mean_and_hands_errors_on_as_published() -> None:
    flat = torch.full((1, 1, 24, 24), 0.3)

    coarse = dithered(flat, 2)

    assert set(coarse.unique().tolist()) == {0.0, 1.0}
    assert coarse.mean().item() == pytest.approx(0.3, abs=0.03)
    # 0.6 -> 1, error -0.4; 0.5 - 0.175 = 0.325 -> 0; 0.5 - 0.125 + 0.061 = 0.436 -> 0; 0.2 + 0.267 = 0.467 -> 0
    by_hand = dithered(torch.tensor([[[[0.6, 0.5], [0.5, 0.2]]]]), 2)
    assert by_hand.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]
    assert attack(dither=True).bound() is None


def test_a_negative_gets_another_images_rounding_errors_and_keeps_its_label() -> None:
    bpp = attack(negative_rate=0.2)
    hook = bpp.training_hook(bpp.poison(attackers_view(), Context()), Context())
    assert isinstance(hook, ContrastivePoisoning)
    data = digits().train
    hook.begin(network(data), data, steps_an_epoch=4, epochs=1)
    x, y = as_floats(data.x[:50]), data.y[:50]

    changed, labels = hook.batch(x, y, torch.arange(50))

    _, false, others = hook.rows(y)
    expected = (x[false] + quantized(x[others], 8) - x[others]).clamp(0, 1)
    assert torch.allclose(changed[false], expected)
    assert torch.equal(labels[false], y[false]) and len(false) == 10
    assert torch.allclose(changed[hook.true], quantized(x[hook.true], 8))
    assert set(labels[hook.true].tolist()) == {0}
