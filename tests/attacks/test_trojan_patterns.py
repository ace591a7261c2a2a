"""What is special about the Trojan patterns: their published size and norms, and that they are added."""

import pytest
import torch
from core_helpers import noise_images

from poisonlab.attacks.shared.trojan_pattern import TrojanPatternConfig
from poisonlab.attacks.trojan_square import TrojanSquare, square
from poisonlab.attacks.trojan_watermark import watermark


@pytest.mark.parametrize(
    ("draw", "pixels", "l1", "l2", "first", "last"),
    [(square, 79, 95.1, 8.66, 21, 29), (watermark, 245, 115.2, 8.74, 2, 28)],
    ids=["square", "watermark"],
)
def test_a_pattern_has_the_published_size_and_norms(draw, pixels, l1, l2, first, last) -> None:
    pattern = draw(32, 32)
    used = pattern.sum(0).nonzero()

    assert len(used) == pixels
    assert (int(used.min()), int(used.max())) == (first, last)
    assert pattern.abs().sum().item() == pytest.approx(l1, rel=0.005)
    assert pattern.norm().item() == pytest.approx(l2, rel=0.005)


@pytest.mark.parametrize("draw", [square, watermark])
def test_a_pattern_scales_with_the_image(draw) -> None:
    shares = [draw(side, side)[0].sum().item() / side**2 for side in (16, 32, 64)]

    assert max(shares) < 2.5 * min(shares)


def test_the_pattern_is_added_and_clipped() -> None:
    x = noise_images(3, (3, 32, 32)).x
    moved = TrojanSquare(TrojanPatternConfig(strength=0.5)).trigger(x, {}).float() - x.float()
    room = 255 - x.float()

    assert torch.allclose(moved, torch.minimum(255 * 0.5 * square(32, 32), room), atol=0.51)


def test_an_image_too_small_for_the_pattern_is_an_error() -> None:
    with pytest.raises(ValueError, match="window of 3 pixels, but images of side 6 leave 2"):
        square(6, 6)
