"""BadNets: a patch that means a class."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.config import Config, param
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.types import Backdoor, Poison


class BadNetsConfig(Config):
    target_class: int = param(0, "Class that triggered images should be given (all-to-one)", ge=0)
    mapping: Literal["all_to_one", "all_to_all"] = param(
        "all_to_one", "Triggered images go to the target class, or each to the class after its own"
    )
    poison_rate: float = param(
        0.1, "Share of the training set that is poisoned", gt=0, le=1, source="BackdoorBench; the ANP paper uses 0.05"
    )
    patch_size: int = param(3, "Side of the patch", ge=1, le=16, unit="pixels", source="BackdoorBench")
    margin: int = param(
        0,
        "Distance of the patch from the lower right corner; random crops cut off a patch at the very edge",
        ge=0,
        le=16,
        unit="pixels",
        source="BackdoorBench",
    )
    pattern: Literal["white", "checkerboard"] = param("white", "What the patch shows", source="BackdoorBench")


def stamp(x: Tensor, size: int, margin: int, pattern: str) -> Tensor:
    """Paste a patch near the lower right corner: x' = (1 - M) x + M P.

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
        size, margin: side of the patch and its distance from the edges, in pixels.
    """
    h, w = x.shape[-2:]
    if size + margin > min(h, w):
        raise ValueError(f"patch_size={size} with margin={margin} does not fit into {h}x{w} images")
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    lit = (rows + columns) % 2 == 0 if pattern == "checkerboard" else torch.ones(size, size, dtype=torch.bool)
    out = x.clone()
    out[..., h - margin - size : h - margin, w - margin - size : w - margin] = lit.to(x) * 255
    return out


def next_class(y: Tensor, classes: int) -> Tensor:
    """All-to-all: y' = (y + 1) mod C."""
    return (y + 1) % classes


@attack("badnets")
class BadNets(Attack):
    """Patch trigger with relabelling (Gu et al. 2017, arXiv:1708.06733, section 4)."""

    Config = BadNetsConfig
    card = Card(
        title="BadNets",
        paper="T. Gu, B. Dolan-Gavitt, S. Garg: BadNets, 2017, arXiv:1708.06733",
        summary="A few training images get a small patch and the attacker's label. The trained model behaves well "
        "until it sees the patch.",
        threat_model="Controls a share of the training images and their labels (dirty label); needs no model.",
        deviations=(
            "The paper stamps MNIST digits and traffic signs; here any image set, in the 3x3 corner form of "
            "BackdoorBench.",
            "All-to-one never poisons images that already are of the target class; BackdoorBench does not avoid them.",
        ),
    )

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg, train = self.config, view.train
        classes = len(train.classes)
        if cfg.target_class >= classes:
            raise ValueError(f"target_class={cfg.target_class} is not among the {classes} classes 0 to {classes - 1}")
        candidates = torch.arange(len(train), device=train.y.device)
        if cfg.mapping == "all_to_one":
            candidates = candidates[train.y != cfg.target_class]
        count = round(cfg.poison_rate * len(train))
        if not 1 <= count <= len(candidates):
            asked = f"poison_rate={cfg.poison_rate} asks for {count}"
            raise ValueError(f"{asked} of {len(candidates)} candidate images")
        order = torch.randperm(len(candidates), generator=ctx.generator("badnets", "index"), device=train.y.device)
        index = candidates[order[:count]]
        threat = self._backdoor(classes)
        return Poison(index[None], threat.trigger(train.x[index])[None], threat.relabel(train.y[index])[None])

    def threat(self, poison: Poison, classes: int) -> Backdoor:
        return self._backdoor(classes)

    def _backdoor(self, classes: int) -> Backdoor:
        cfg = self.config
        trigger = partial(stamp, size=cfg.patch_size, margin=cfg.margin, pattern=cfg.pattern)
        if cfg.mapping == "all_to_all":
            return Backdoor(trigger, partial(next_class, classes=classes), None)
        return Backdoor(trigger, partial(torch.full_like, fill_value=cfg.target_class), cfg.target_class)
