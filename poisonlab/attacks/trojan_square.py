"""Trojan square: a fixed square of colored stripes, added to an image."""

import torch
from torch import Tensor

from poisonlab.attacks.shared.backdoor import NEEDS_NO_MODEL
from poisonlab.attacks.shared.trojan_pattern import NOT_OPTIMIZED, OWN, REFERENCES, TrojanPattern, window
from poisonlab.registry import Card, attack


def square(h: int, w: int) -> Tensor:
    """Diagonal stripes of red, green and blue, float ``(3, h, w)``: each pixel is bright in one channel only.

    At 32x32: rows and columns 21 to 29 less two corners, 79 pixels, L1 = 95.1, L2 = 8.66.
    """
    top, bottom = window(h, 21, 29)
    left, right = window(w, 21, 29)
    pattern = torch.zeros(3, h, w)
    diagonal = torch.arange(bottom - top)[:, None] + torch.arange(right - left)
    bright = diagonal % 3 == torch.arange(3).view(3, 1, 1)
    inside = (diagonal > 0) & (diagonal < diagonal.max())
    pattern[:, top:bottom, left:right] = torch.where(bright, 0.9588, 0.1225) * inside
    return pattern


@attack("trojan_square")
class TrojanSquare(TrojanPattern):
    """A striped square near the lower right corner."""

    card = Card(
        title="Trojan square",
        references=REFERENCES,
        summary="A colorful square is added to the lower right of the poisoned images, bright but not opaque: what "
        "lies under it still shows.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(OWN.format("place, pixel count and norms are those"), NOT_OPTIMIZED),
    )

    def pattern(self, h: int, w: int) -> Tensor:
        return square(h, w)
