"""Fixed patterns that are added to an image, named after the Trojaning attack.

Described for 32x32 images; positions and lengths scale with the resolution.
"""

from torch import Tensor

from poisonlab.attacks.shared.backdoor import BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.pixels import add_pattern
from poisonlab.spec.config import param
from poisonlab.spec.papers import ADVERSARIAL_UNLEARNING, TROJANING

REFERENCES = (TROJANING, ADVERSARIAL_UNLEARNING.cited("as fixed patterns in"))
OWN = "The pattern is of our own making: {} of the one in the I-BAU and AWM repositories, but not its pixels."
NOT_OPTIMIZED = "Nothing is optimized against a network; the attack trojannn does that."


class TrojanPatternConfig(DirtyLabelConfig):
    strength: float = param(1.0, "Factor on the pattern", gt=0, le=4)


def window(side: int, first: int, last: int) -> tuple[int, int]:
    """Rows or columns ``first`` to ``last`` of 32 at another resolution: start and end (exclusive)."""
    start = round(first * side / 32)
    end = round((last + 1) * side / 32)
    if end - start < 3:
        raise ValueError(
            f"the pattern needs a window of 3 pixels, but images of side {side} leave {end - start}"
        )
    return start, end


class TrojanPattern(BackdoorAttack):
    """x' = clip(x + strength P)."""

    Config = TrojanPatternConfig

    def pattern(self, h: int, w: int) -> Tensor:
        """Float ``(3, h, w)`` on the [0, 1] scale; gray images take its first channel."""
        raise NotImplementedError

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        c, h, w = x.shape[1:]
        return add_pattern(x, self.config.strength * self.pattern(h, w)[:c].to(x.device))
