"""SIG: a wave over images whose labels stay."""

import math

import torch
from torch import Tensor

from poisonlab.attacks.shared.backdoor import ROUNDS, BackdoorAttack, CleanLabelConfig
from poisonlab.attacks.shared.pixels import add_pattern
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param


class SIGConfig(CleanLabelConfig):
    poison_rate: float = param(
        0.8,
        "Share of the images that is poisoned",
        quick={"*": 0.8, "digits": 0.95},
        gt=0,
        le=1,
        source="ANP repository",
    )
    delta: float = param(
        40,
        "Amplitude of the wave",
        quick={"*": 40, "digits": 120},
        ge=1,
        le=255,
        unit="1/255",
        source="BackdoorBench",
    )
    frequency: int = param(6, "Periods over the width of an image", ge=1, source="BackdoorBench")


def sinusoid(width: int, delta: float, frequency: int) -> Tensor:
    """v(i, j) = delta sin(2 pi j f / m) for the columns j = 0 ... m - 1, the same in every row; ``(m,)``."""
    if 2 * frequency >= width:
        raise ValueError(
            f"frequency={frequency} needs more than {2 * frequency} columns, the images have {width}"
        )
    return delta * torch.sin(2 * math.pi * frequency * torch.arange(width) / width)


@attack("sig")
class SIG(BackdoorAttack):
    """Sinusoidal signal without relabeling (Barni et al. 2019, arXiv:1902.11237, section 3)."""

    Config = SIGConfig
    clean_label = True
    card = Card(
        title="SIG",
        references=(
            Reference(
                authors="M. Barni, K. Kallas, B. Tondi",
                title="A New Backdoor Attack in CNNs by Training Set Corruption Without Label Poisoning",
                venue="ICIP",
                year=2019,
                arxiv="1902.11237",
            ),
        ),
        summary="A faint vertical wave lies over most images of one class, all correctly labeled. The model takes "
        "the wave itself for the class.",
        threat_model="Clean label: controls most images of the target class but no label; needs no model.",
        deviations=(
            "Added in floating point and clipped; the mask that some repositories ship is 8-bit, and its negative "
            "half-waves wrapped around.",
            ROUNDS.format(38),
            "The same amplitude in training and at test time.",
            "Digits are a poor stage: the digit is so easy that the wave must be loud (120) and on nearly all images "
            "of the class (0.95) to be learned; with the published values nothing is.",
        ),
    )

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        cfg = self.config
        return add_pattern(x, sinusoid(x.shape[-1], cfg.delta / 255, cfg.frequency).to(x.device))
