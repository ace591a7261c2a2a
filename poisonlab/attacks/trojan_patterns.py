"""Two fixed patterns that are added to an image, named after the Trojaning attack: a square and a watermark.

Described for 32x32 images; positions and lengths scale with the resolution.
"""

import torch
from torch import Tensor

from poisonlab.attacks.shared.backdoor import BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.pixels import add_pattern
from poisonlab.registry import Card, attack
from poisonlab.spec.config import param
from poisonlab.spec.papers import ADVERSARIAL_UNLEARNING, TROJANING

THREAT = "Controls a share of the training images and their labels (dirty label); needs no model."
OWN = "The pattern is of our own making: {} of the one in the I-BAU and AWM repositories, but not its pixels."
NOT_OPTIMISED = "Nothing is optimized against a network; the attack trojannn does that."


class TrojanPatternConfig(DirtyLabelConfig):
    strength: float = param(1.0, "Factor on the pattern", gt=0, le=4)


def window(side: int, first: int, last: int) -> tuple[int, int]:
    """Rows or columns ``first`` to ``last`` of 32 at another resolution: start and end (exclusive)."""
    start, end = round(first * side / 32), round((last + 1) * side / 32)
    if end - start < 3:
        raise ValueError(
            f"the pattern needs a window of 3 pixels, but images of side {side} leave {end - start}"
        )
    return start, end


def square(h: int, w: int) -> Tensor:
    """Diagonal stripes of red, green and blue, float ``(3, h, w)``: each pixel is bright in one channel only.

    At 32x32: rows and columns 21 to 29 less two corners, 79 pixels, L1 = 95.1, L2 = 8.66.
    """
    (top, bottom), (left, right) = window(h, 21, 29), window(w, 21, 29)
    pattern = torch.zeros(3, h, w)
    diagonal = torch.arange(bottom - top)[:, None] + torch.arange(right - left)
    bright = diagonal % 3 == torch.arange(3).view(3, 1, 1)
    inside = (diagonal > 0) & (diagonal < diagonal.max())
    pattern[:, top:bottom, left:right] = torch.where(bright, 0.9588, 0.1225) * inside
    return pattern


def lines(length: int) -> Tensor:
    """Every sixth position, as far from both ends; bool ``(length,)``."""
    return torch.arange(length) % 6 == (length - 1) % 6 // 2


def watermark(h: int, w: int) -> Tensor:
    """A faint gray grid over nearly the whole image with bright crossings, float ``(3, h, w)``.

    At 32x32: five lines each way within rows and columns 2 to 28, 245 pixels, L1 = 115.2, L2 = 8.74.
    """
    (top, bottom), (left, right) = window(h, 2, 28), window(w, 2, 28)
    pattern = torch.zeros(h, w)
    row, column = lines(bottom - top)[:, None], lines(right - left)
    pattern[top:bottom, left:right] = torch.where(row & column, 0.992, 0.0618) * (row | column)
    return pattern.expand(3, h, w)


class TrojanPattern(BackdoorAttack):
    """x' = clip(x + strength P)."""

    Config = TrojanPatternConfig

    def pattern(self, h: int, w: int) -> Tensor:
        """Float ``(3, h, w)`` on the [0, 1] scale; gray images take its first channel."""
        raise NotImplementedError

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        c, h, w = x.shape[1:]
        return add_pattern(x, self.config.strength * self.pattern(h, w)[:c].to(x.device))


@attack("trojan_square")
class TrojanSquare(TrojanPattern):
    """A striped square near the lower right corner."""

    card = Card(
        title="Trojan square",
        references=(
            TROJANING,
            ADVERSARIAL_UNLEARNING.cited("as fixed patterns in"),
        ),
        summary="A colorful square is added to the lower right of the poisoned images, bright but not opaque: what "
        "lies under it still shows.",
        threat_model=THREAT,
        deviations=(OWN.format("place, pixel count and norms are those"), NOT_OPTIMISED),
    )

    def pattern(self, h: int, w: int) -> Tensor:
        return square(h, w)


@attack("trojan_watermark")
class TrojanWatermark(TrojanPattern):
    """A thin grid over the whole image."""

    card = Card(
        title="Trojan watermark",
        references=(
            TROJANING,
            ADVERSARIAL_UNLEARNING.cited("as fixed patterns in"),
        ),
        summary="Thin lines run over the whole image and are bright only where they cross: a watermark that means a "
        "class.",
        threat_model=THREAT,
        deviations=(OWN.format("pixel count, norms and, within two pixels, extent are those"), NOT_OPTIMISED),
    )

    def pattern(self, h: int, w: int) -> Tensor:
        return watermark(h, w)
