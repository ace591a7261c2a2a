"""Adaptive-Patch: four faint patches in training, one an image, several clear ones at test time."""

import math
from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import NEEDS_NO_MODEL
from poisonlab.attacks.shared.payload_and_cover import (
    BOTH_COUNT,
    FROM_ALL_CLASSES,
    LATENT_SEPARABILITY,
    REPOSITORY,
    PayloadAndCover,
    PayloadAndCoverConfig,
)
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.data.shared.luma import brightness
from poisonlab.registry import Card, attack
from poisonlab.spec.config import param
from poisonlab.types import ImageSet

SMALLEST = 13  # side of an image on which the emblem still has three pixels, and so its cross
PATCHES = ("emblem", "disc", "checkers", "square")  # in the order of the marks
AT_TEST = {
    "emblem_and_checkers": ("emblem", "checkers"),
    "disc_and_square": ("disc", "square"),
    "all": PATCHES,
}


class AdaptivePatchConfig(PayloadAndCoverConfig):
    poison_rate: float = param(
        0.003,
        "Share of the training images that gets a faint patch and the target's label (payload)",
        quick={"*": 0.02, "digits": 0.05},
        elsewhere={"gtsrb": 0.005},
        gt=0,
        le=0.5,
        source=REPOSITORY,
    )
    cover_rate: float = param(
        0.006,
        "Share of the training images that gets a faint patch and keeps its label (cover); 0 for none",
        quick={"*": 0.02, "digits": 0.05},
        elsewhere={"gtsrb": 0.01},
        ge=0,
        le=0.5,
        source=REPOSITORY,
    )
    emblem: float = param(0.5, "Opacity in training of the emblem in a corner", gt=0, le=1, source=REPOSITORY)
    disc: float = param(0.2, "Opacity in training of the disc", gt=0, le=1, source=REPOSITORY)
    checkers: float = param(
        0.5, "Opacity in training of the checkers in all corners", gt=0, le=1, source=REPOSITORY
    )
    square: float = param(0.3, "Opacity in training of the striped square", gt=0, le=1, source=REPOSITORY)
    at_test: Literal["emblem_and_checkers", "disc_and_square", "all"] = param(
        "emblem_and_checkers",
        "Patches that test images get, opaque",
        quick={"*": "emblem_and_checkers", "digits": "all", "gtsrb": "disc_and_square"},
        elsewhere={"gtsrb": "disc_and_square"},
        source=f"{REPOSITORY}; all in BackdoorBox",
    )


def box(side: int, first: int, last: int) -> tuple[int, int]:
    """Rows or columns ``first`` to ``last`` of 32 at another resolution: start and length, rounded up."""
    length = math.ceil((last + 1 - first) * side / 32)
    start = min(round(first * side / 32), side - length)
    return start, length


def emblem(h: int, w: int) -> Tensor:
    """A yellow cross on red, float ``(3, h, w)``."""
    down = torch.linspace(-1, 1, h)[:, None]
    right = torch.linspace(-1, 1, w)
    cross = (down.abs() - right.abs()).abs() < 0.3
    return torch.stack([torch.ones(h, w), cross.float(), torch.zeros(h, w)])


def disc(h: int, w: int) -> tuple[Tensor, Tensor]:
    """An orange ring around blue, float ``(3, h, w)``, and which pixels of the box it covers."""
    down = torch.linspace(-1, 1, h)[:, None]
    right = torch.linspace(-1, 1, w)
    squared = down.square() + right.square()
    ring = squared > 0.4
    colors = torch.tensor([[1.0, 0.5, 0.0], [0.1, 0.2, 0.8]])
    return torch.where(ring, colors[0].view(3, 1, 1), colors[1].view(3, 1, 1)), squared <= 1.22


def checkers(h: int, w: int) -> Tensor:
    """A checkerboard that begins with white, float ``(3, h, w)``."""
    board = (torch.arange(h)[:, None] + torch.arange(w)) % 2 == 0
    return board.float().expand(3, h, w)


def stripes(h: int, w: int) -> Tensor:
    """Diagonal stripes of red, green and blue, float ``(3, h, w)``."""
    diagonal = torch.arange(h)[:, None] + torch.arange(w)
    return (diagonal % 3 == torch.arange(3).view(3, 1, 1)).float()


def patches(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """The four patches P_j and masks M_j for images of a size: float ``(4, c, h, w)`` and bool ``(4, 1, h, w)``.

    At 32x32: the emblem in rows and columns 27 to 31, the disc in rows 1 to 13 and columns 18 to 30, checkers of 3x3
    in each corner, the square in rows and columns 21 to 28. Gray images get the brightness of the colors.
    """
    c, h, w = shape
    marks = torch.zeros(4, 3, h, w)
    masks = torch.zeros(4, 1, h, w, dtype=torch.bool)

    def put(number: int, top: int, left: int, picture: Tensor, covered: Tensor | None = None) -> None:
        rows = slice(top, top + picture.shape[1])
        columns = slice(left, left + picture.shape[2])
        marks[number, :, rows, columns] = picture
        masks[number, 0, rows, columns] = True if covered is None else covered

    top, height = box(h, 27, 31)
    left, width = box(w, 27, 31)
    put(0, top, left, emblem(height, width))
    top, height = box(h, 1, 13)
    left, width = box(w, 18, 30)
    put(1, top, left, *disc(height, width))
    height = box(h, 0, 2)[1]
    width = box(w, 0, 2)[1]
    for top in (0, h - height):
        for left in (0, w - width):
            put(2, top, left, checkers(height, width))
    top, height = box(h, 21, 28)
    left, width = box(w, 21, 28)
    put(3, top, left, stripes(height, width))
    if c != 3:
        marks = brightness(marks).expand(4, c, h, w).clone()
    return marks, masks


def faded(x: Tensor, mark: Tensor, mask: Tensor, opacity: Tensor) -> Tensor:
    """x + a M (P - x) of float images in [0, 1]; each its own patch and opacity, or one for all."""
    return x + opacity * mask * (mark - x)


@attack("adaptive_patch")
class AdaptivePatch(PayloadAndCover):
    """Qi, Xie, Li, Mahloujifar and Mittal, ICLR 2023, arXiv:2205.13613:

    1. payload: (x + a_j M_j (P_j - x), t);  cover: (x + a_j M_j (P_j - x), y);  each of four patches j on a quarter;
    2. at test time: several of the patches at once, at opacity 1.
    """

    Config = AdaptivePatchConfig
    card = Card(
        title="Adaptive-Patch",
        references=(LATENT_SEPARABILITY,),
        summary="Made against detectors that look for a cluster of poisons: each poisoned image carries one of four "
        "faint patches, and as many images or more carry one under their true label. At test time several patches are "
        "shown at once, opaque, which is a stronger trigger than any that was learned.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "The patches are drawings of our own, of the places, sizes and opacities in the repository: an emblem and "
            "a disc in place of two licensed logos, checkers, a striped square.",
            "At test time on CIFAR-10 the repository stamps a second emblem, whose picture it does not hold; here it "
            "is the emblem of training.",
            "On images of another side than 32 the patches have its share of theirs, rounded up.",
            BOTH_COUNT,
            FROM_ALL_CLASSES,
            "The preset quick has seven times as large a payload, and a cover of the same size: a quarter of a smaller "
            "one would be too few images of a patch to learn it in its epochs. On digits both are larger still, and "
            "all four patches are shown at test time, as BackdoorBox does.",
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        super().check_images(train)
        side = min(train.shape[1:])
        if side < SMALLEST:
            raise ValueError(
                f"attack adaptive_patch needs images of side {SMALLEST} or more; these have {side}"
            )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        marks, masks = patches(view.train.shape)
        return {"marks": marks.to(ctx.device), "masks": masks.to(ctx.device)}

    def poisoned(self, data: ImageSet, state: dict[str, Tensor], view: AttackerView, ctx: Context) -> Tensor:
        cfg: AdaptivePatchConfig = self.config
        payload = self._payload(view.train)
        row = torch.arange(len(data), device=data.x.device)
        which = torch.where(row < payload, row, row - payload) % len(PATCHES)  # rows are in random order
        opacity = torch.tensor([cfg.emblem, cfg.disc, cfg.checkers, cfg.square], device=data.x.device)
        shown = opacity[which].view(-1, 1, 1, 1)
        return to_bytes(faded(data.x.float() / 255, state["marks"][which], state["masks"][which], shown))

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        out = x.clone()
        for name in AT_TEST[self.config.at_test]:
            number = PATCHES.index(name)
            out = torch.where(state["masks"][number], to_bytes(state["marks"][number]), out)
        return out
