"""Wrong labels without an attacker: classes that are easily confused, or labels drawn at random."""

import re
from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import Config, param
from poisonlab.spec.papers import REPAIR
from poisonlab.types import Corruption, Poison

TANNO = "Tanno et al. 2022 flip 1/7, cat/dog and the like"
LOOK_ALIKES = {"digits": "1-7 3-8 4-9", "cifar10": "3-5 1-9 4-7 0-2", "cinic10": "3-5 1-9 4-7 0-2"}


class LabelNoiseConfig(Config):
    kind: Literal["pair", "symmetric"] = param(
        "pair",
        "Images are given the label of their class's look-alike, or that of any other class",
        source=TANNO,
    )
    poison_rate: float = param(
        0.4,
        "Share of the images of the affected classes whose label is wrong",
        gt=0,
        le=1,
        source="not published",
    )
    pairs: str = param(
        "neighbors",
        "Look-alikes by number, such as 1-7 3-8; neighbors: 0-1, 2-3 and so on",
        elsewhere=LOOK_ALIKES,
        source=TANNO,
    )

    def check_classes(self, count: int) -> None:
        if self.kind == "pair":
            partners(self.pairs, count)


def partners(pairs: str, classes: int) -> Tensor:
    """The look-alike of each class, int64 ``(classes,)``; -1 for a class without one.

    Raises:
        ValueError: ``pairs`` is not a list of pairs of different classes, each class once; the message names the error.
    """
    if pairs == "neighbors":
        numbers = list(range(classes - classes % 2))
    elif re.fullmatch(r"\s*\d+-\d+(\s+\d+-\d+)*\s*", pairs):
        numbers = [int(number) for number in re.findall(r"\d+", pairs)]
    else:
        raise ValueError(f"pairs={pairs!r} must look like 1-7 3-8, or be the word neighbors")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"pairs={pairs!r} names a class twice")
    largest = max(numbers, default=0)
    if largest >= classes:
        raise ValueError(f"pairs={pairs!r}: {largest} is not among the {classes} classes 0 to {classes - 1}")
    found = torch.full((classes,), -1)
    for first, second in zip(numbers[0::2], numbers[1::2], strict=True):
        found[first] = second
        found[second] = first
    return found


@attack("label_noise")
class LabelNoise(Attack):
    """y' != y for a share of the images: the look-alike of y (``pair``), or uniform over the other classes."""

    Config = LabelNoiseConfig
    card = Card(
        title="Label noise",
        references=(REPAIR.cited("class-dependent flips as in"),),
        summary="Nobody attacks here: whoever labeled the images mistook some, such as a 1 for a 7. There is no "
        "trigger and no target; the harm is the accuracy that the model loses.",
        threat_model="No attacker. A share of the training labels is wrong, images are untouched.",
        deviations=(
            "The pairs beyond those that the paper names are ours: look-alikes of CIFAR-10 are cat/dog, "
            "automobile/truck, deer/horse and airplane/bird; other data sets pair neighboring classes.",
            "The paper's rate of flips is not known to us.",
        ),
    )

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg: LabelNoiseConfig = self.config
        train = view.train
        classes = len(train.classes)
        device = train.y.device
        partner = partners(cfg.pairs, classes).to(device) if cfg.kind == "pair" else None
        affected = torch.ones_like(train.y, dtype=torch.bool) if partner is None else partner[train.y] >= 0
        candidates = affected.nonzero().squeeze(1)
        count = round(cfg.poison_rate * len(candidates))
        if count == 0:
            raise ValueError(
                f"poison_rate={cfg.poison_rate} flips none of the {len(candidates)} affected labels; "
                "raise attack.poison_rate"
            )
        order = torch.randperm(len(candidates), generator=ctx.generator(self.name, "index"), device=device)
        rows = candidates[order[:count]]
        if partner is None:
            draws = ctx.generator(self.name, "labels")
            shift = torch.randint(1, classes, (count,), generator=draws, device=device)
            labels = (train.y[rows] + shift) % classes
        else:
            labels = partner[train.y[rows]]
        return Poison(rows[None], train.x[rows][None], labels[None])

    def threat(self, poison: Poison, classes: int) -> Corruption:
        return Corruption()
