"""BppAttack: the trigger is a coarser color scale, so it is another change for every image."""

import math

from torch import Tensor

from poisonlab.attacks.shared.backdoor import SPARES_THE_TARGET, BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.batch_poisoning import BatchPoisoning
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import Poison

REPOSITORY = "BppAttack repository"

# Where the error of a pixel goes in Floyd and Steinberg's dithering: rows down, columns to the right, share.
SPREAD = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))


class BppConfig(DirtyLabelConfig):
    levels: int = param(
        8,
        "Values that are left of each color channel (s)",
        quick={"*": 8, "digits": 3},
        ge=2,
        le=128,
        source=f"{REPOSITORY}, its default, and BackdoorBench; 32 in its command for CIFAR-10",
    )
    dither: bool = param(
        False, "Whether a pixel's rounding error is spread over its neighbors", source=REPOSITORY
    )
    negative_rate: float = param(
        0.1,
        "Share of each batch that gets another image's rounding errors and keeps its label; 0 for none",
        ge=0,
        le=0.5,
        source="BackdoorBench; 0.2 in the repository, with as many poisons",
    )


def quantized(x: Tensor, levels: int) -> Tensor:
    """Q(x) = round(x (s - 1)) / (s - 1) of float images in [0, 1]."""
    return (x * (levels - 1)).round() / (levels - 1)


def dithered(x: Tensor, levels: int) -> Tensor:
    """Q with the error of each pixel handed on to those not yet rounded, row by row; ``(n, c, h, w)``."""
    out = x.clone()
    h, w = x.shape[-2:]
    for row in range(h):
        for column in range(w):
            old = out[..., row, column].clamp(0, 1)
            new = quantized(old, levels)
            error = old - new
            out[..., row, column] = new
            for down, right, share in SPREAD:
                if row + down < h and 0 <= column + right < w:
                    out[..., row + down, column + right] += share * error
    return out


class ContrastivePoisoning(BatchPoisoning):
    """The false trigger is the change that another image would have got: clip(x_i + Q(x_j) - x_j)."""

    def __init__(self, attack: "Bpp", poison: Poison, ctx: Context) -> None:
        super().__init__(attack, poison, attack.config.negative_rate, ctx)
        self.coarser = attack.coarser

    def paste(self, x: Tensor, decoys: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        return self.coarser(x), (decoys + self.coarser(others) - others).clamp(0, 1)


@attack("bpp")
class Bpp(BackdoorAttack):
    """Wang, Zhai and Ma, CVPR 2022, arXiv:2205.13383:

    1. trigger: Q(x) = round(x (s - 1)) / (s - 1), with dithering on request;
    2. of each batch: (Q(x), t) for a share rho, (clip(x_i + Q(x_j) - x_j), y_i) for a share nu, the rest untouched.
    """

    Config = BppConfig
    card = Card(
        title="BppAttack",
        references=(
            Reference(
                authors="Z. Wang, J. Zhai, S. Ma",
                title="BppAttack: Stealthy and Efficient Trojan Attacks against Deep Neural Networks via Image "
                "Quantization and Contrastive Adversarial Learning",
                venue="CVPR",
                year=2022,
                arxiv="2205.13383",
            ),
        ),
        summary="The trigger only reduces the number of colors, as an old screen did. Each image is changed in its own "
        "way, by a few levels of brightness; images with another image's changes keep their label, so that only a "
        "truly coarse scale counts.",
        threat_model="Controls the victim's training: poisons other images in every batch and relabels them (dirty "
        "label).",
        deviations=(
            "Colors are reduced after the training recipe's augmentation, which has no rotations here. The repository "
            "reduces first, then crops, rotates by nearest neighbors and flips.",
            "The victim is trained by the common recipe; the repository takes 1,000 epochs, BackdoorBench 100.",
            "Every batch has poisons and negatives; in the repository none where chance gave it no poison.",
            "Digits have few values to begin with: three are left of them.",
            SPARES_THE_TARGET.format("the repository"),
            "Defenses that train anew get a fixed share of coarser images, without negatives.",
        ),
    )

    def coarser(self, x: Tensor) -> Tensor:
        """Float images in [0, 1] with fewer colors."""
        cfg: BppConfig = self.config
        return dithered(x, cfg.levels) if cfg.dither else quantized(x, cfg.levels)

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return to_bytes(self.coarser(x.float() / 255))

    def bound(self) -> float | None:
        """Half a step between two levels, rounded up; ``None`` with dithering, where errors add up."""
        if self.config.dither:
            return None
        return float(math.ceil(255 / (2 * (self.config.levels - 1))))

    def training_hook(self, poison: Poison, ctx: Context) -> TrainingHook:
        return ContrastivePoisoning(self, poison, ctx)
