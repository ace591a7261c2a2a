"""Trojan watermark: a fixed grid of faint lines, added to an image."""

import torch
from torch import Tensor

from poisonlab.attacks.shared.backdoor import NEEDS_NO_MODEL
from poisonlab.attacks.shared.trojan_pattern import NOT_OPTIMIZED, OWN, REFERENCES, TrojanPattern, window
from poisonlab.registry import Card, attack


def lines(length: int) -> Tensor:
    """Every sixth position, as far from both ends; bool ``(length,)``."""
    return torch.arange(length) % 6 == (length - 1) % 6 // 2


def watermark(h: int, w: int) -> Tensor:
    """A faint gray grid over nearly the whole image with bright crossings, float ``(3, h, w)``.

    At 32x32: five lines each way within rows and columns 2 to 28, 245 pixels, L1 = 115.2, L2 = 8.74.
    """
    top, bottom = window(h, 2, 28)
    left, right = window(w, 2, 28)
    pattern = torch.zeros(h, w)
    row = lines(bottom - top)[:, None]
    column = lines(right - left)
    pattern[top:bottom, left:right] = torch.where(row & column, 0.992, 0.0618) * (row | column)
    return pattern.expand(3, h, w)


@attack("trojan_watermark")
class TrojanWatermark(TrojanPattern):
    """A thin grid over the whole image."""

    card = Card(
        title="Trojan watermark",
        references=REFERENCES,
        summary="Thin lines run over the whole image and are bright only where they cross: a watermark that means a "
        "class.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(OWN.format("pixel count, norms and, within two pixels, extent are those"), NOT_OPTIMIZED),
    )

    def pattern(self, h: int, w: int) -> Tensor:
        return watermark(h, w)
