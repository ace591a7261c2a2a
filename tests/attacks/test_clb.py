"""What is special about CLB: the bound before the stamp, images that became hard, the four corners."""

import pytest
import torch
from core_helpers import attackers_view, clean_model, digits

from poisonlab.attacks.clb import CLB, CLBConfig, corners, harden
from poisonlab.context import Context
from poisonlab.models.base import predict


def test_the_four_corners_are_those_of_backdoorbench() -> None:
    """``utils/bd_img_transform/lc.py``: upper corners repeat the rows of the lower ones, they do not mirror them."""
    gray = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    stamped = CLB(CLBConfig()).trigger(gray, {})[0]
    left = [[255, 0, 0], [0, 255, 0], [255, 0, 255]]
    right = [[0, 0, 255], [0, 255, 0], [255, 0, 255]]

    for channel in stamped:
        assert channel[:3, :3].tolist() == left and channel[-3:, :3].tolist() == left
        assert channel[:3, -3:].tolist() == right and channel[-3:, -3:].tolist() == right
    assert bool((stamped[:, 3:29] == 100).all() and (stamped[:, :, 3:29] == 100).all())


def test_a_small_amplitude_adds_to_the_pixels() -> None:
    gray = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    moved = CLB(CLBConfig(amplitude=32)).trigger(gray, {}).int() - 100

    assert torch.equal(moved[0, 0], (32 * corners(8, 8)).int())


@pytest.mark.parametrize("eps", [1, 7.9, 16])
def test_hardening_stays_within_eps_in_8_bits(eps: float) -> None:
    x, y = digits().train.x[:8], digits().train.y[:8]
    hard = harden(clean_model(), x, y, CLBConfig(eps=eps, steps=3, step_size=20), Context())

    assert 0 < int((hard.int() - x.int()).abs().max()) <= eps


def test_hardened_images_are_recognised_less_often() -> None:
    data = digits().train
    hard = harden(clean_model(), data.x, data.y, CLBConfig(eps=32, steps=10, step_size=6), Context())
    before, after = ((predict(clean_model(), x) == data.y).float().mean() for x in (data.x, hard))

    assert after < before - 0.3


def test_at_test_time_the_pattern_alone_is_stamped() -> None:
    attack, x = CLB(CLBConfig(steps=2)), digits().test.x
    made = attack.poison(attackers_view(), Context())
    stamped = attack.threat(made, 10).trigger(x)
    corner = corners(*x.shape[-2:]) != 0

    assert torch.equal(stamped[..., ~corner], x[..., ~corner])
    assert torch.equal(made.images[0][..., corner], stamped[: made.budget][..., corner])


def test_images_without_room_for_four_corners_are_an_error() -> None:
    with pytest.raises(ValueError, match="need images of 6x6 pixels, these have 8x5"):
        corners(8, 5)
