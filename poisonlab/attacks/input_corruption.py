"""Corrupted images without an attacker: pixels that turned black or white, or a noisy sensor."""

from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import REPAIR
from poisonlab.types import Corruption, Poison

TANNO = "Tanno et al. 2022"


class InputCorruptionConfig(Config):
    noise: Literal["gaussian", "salt_and_pepper"] = param(
        "gaussian",
        "Added to each pixel, or pixels replaced by black or white",
        elsewhere={"digits": "salt_and_pepper"},
        source=f"{TANNO}: salt-and-pepper on MNIST, Gaussian on CIFAR-10",
    )
    affected_classes: int = param(
        4,
        "Classes, drawn at random, in which images are corrupted",
        elsewhere={"cifar3": 2},  # the paper has none of three classes
        ge=1,
        source=TANNO,
    )
    poison_rate: float = param(0.3, "Share of the images of these classes", gt=0, le=1, source=TANNO)
    strength: float = param(
        0.5,
        "Standard deviation on the scale [0, 1], or share of the pixels replaced",
        gt=0,
        le=1,
        source="not published",
    )

    def check_classes(self, count: int) -> None:
        if self.affected_classes > count:
            raise ValueError(
                f"affected_classes={self.affected_classes} asks for more than the {count} classes"
            )


def salt_and_pepper(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each pixel, all channels at once, becomes black or white with probability ``share``.

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
    """
    draws = torch.rand((len(x), 1, *x.shape[2:]), generator=generator, device=x.device)
    out = torch.where(draws < share / 2, torch.zeros_like(x), x)
    return torch.where((draws >= share / 2) & (draws < share), torch.full_like(x, 255), out)


def gaussian(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """clip(x + N(0, deviation^2)) on the scale [0, 1], each channel on its own; uint8 like ``x``."""
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    return to_bytes(x.float() / 255 + deviation * noise)


@attack("input_corruption")
class InputCorruption(Attack):
    """Noise on a share of the images of some classes; labels stay."""

    Config = InputCorruptionConfig
    clean_label = True
    card = Card(
        title="Input corruption",
        references=(REPAIR.cited("as in"),),
        summary="Nobody attacks here: a camera was broken while some classes were photographed, so that noise tells "
        "these classes apart. There is no trigger and no target; the harm is the accuracy that the model loses.",
        threat_model="No attacker. A share of the images of a few classes is noisy, labels stay true (clean label).",
        deviations=(
            "The classes are drawn anew with each seed; the strength of the noise is ours, as the paper's is not "
            "known to us.",
        ),
    )

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg: InputCorruptionConfig = self.config
        train = view.train
        classes = len(train.classes)
        cfg.check_classes(classes)
        draws = ctx.generator(self.name, "index")
        device = train.y.device
        drawn = torch.randperm(classes, generator=draws, device=device)[: cfg.affected_classes]
        candidates = torch.isin(train.y, drawn).nonzero().squeeze(1)
        count = round(cfg.poison_rate * len(candidates))
        if count == 0:
            raise ValueError(
                f"poison_rate={cfg.poison_rate} corrupts none of the {len(candidates)} candidate images; "
                "raise attack.poison_rate"
            )
        rows = candidates[torch.randperm(len(candidates), generator=draws, device=device)[:count]]
        chosen = train[rows]
        noise = ctx.generator(self.name, "noise")
        corrupt = gaussian if cfg.noise == "gaussian" else salt_and_pepper
        return Poison(rows[None], corrupt(chosen.x, cfg.strength, noise)[None], chosen.y[None])

    def threat(self, poison: Poison, classes: int) -> Corruption:
        return Corruption()
