"""FTrojan: two frequencies of an image's color are raised, the same two in every image."""

import math

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import (
    NEEDS_NO_MODEL,
    SPARES_THE_TARGET,
    BackdoorAttack,
    DirtyLabelConfig,
)
from poisonlab.attacks.shared.pixels import add_pattern
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import ImageSet

BENCH = "BackdoorBench"
SIDE = 32  # of the images that the published magnitude is meant for

# What one step of each chroma channel of YCrCb adds to red, green and blue (ITU-R BT.601).
FROM_CR = (1.403, -0.714, 0.0)
FROM_CB = (0.0, -0.344, 1.773)


class FTrojanConfig(DirtyLabelConfig):
    magnitude: float = param(
        30,
        "By how much each coefficient is raised, on images of 32x32; in proportion to the side on others",
        quick={"*": 30, "digits": 400},
        gt=0,
        le=1000,
        unit="1/255",
        source=f"{BENCH}; the authors' repository takes 20 (CIFAR-10) and 50 (GTSRB)",
    )


def cosine_basis(n: int) -> Tensor:
    """The orthonormal DCT-II: ``D x`` are the coefficients of ``x``; float64 ``(n, n)``, row u for frequency u."""
    u = torch.arange(n, dtype=torch.float64)[:, None]
    i = torch.arange(n, dtype=torch.float64)[None]
    basis = math.sqrt(2 / n) * torch.cos(math.pi * (2 * i + 1) * u / (2 * n))
    basis[0] /= math.sqrt(2)
    return basis


def raised_frequencies(h: int, w: int, magnitude: float) -> Tensor:
    """What is added to each chroma channel: the inverse DCT of ``m`` at the highest and at the middle frequency.

        delta(i, j) = sum over (u, v) of  m (2 / sqrt(h w)) cos(pi (2i + 1) u / 2h) cos(pi (2j + 1) v / 2w),
        (u, v) = (h - 1, w - 1) and (h / 2 - 1, w / 2 - 1),   m = magnitude sqrt(h w) / 32

    so that the change of a pixel is the same whatever the side. Float64 ``(h, w)``.
    """
    coefficients = torch.zeros(h, w, dtype=torch.float64)
    for u, v in ((h - 1, w - 1), (h // 2 - 1, w // 2 - 1)):
        coefficients[u, v] += magnitude * math.sqrt(h * w) / SIDE
    return cosine_basis(h).T @ coefficients @ cosine_basis(w)


def in_colors(chroma: Tensor, channels: int) -> Tensor:
    """The same change of both chroma channels, ``(h, w)``, in red, green and blue; float ``(c, h, w)``.

    Its brightness is 0. An image of another number of channels has no color: each channel is changed alike.
    """
    if channels != len(FROM_CR):
        return chroma.expand(channels, *chroma.shape)
    weights = torch.tensor(FROM_CR, dtype=chroma.dtype) + torch.tensor(FROM_CB, dtype=chroma.dtype)
    return weights.view(-1, 1, 1) * chroma


@attack("ftrojan")
class FTrojan(BackdoorAttack):
    """Wang, Yao, Xu, An, Tong and Wang, ECCV 2022, arXiv:2111.10991:

    1. RGB -> YCrCb;  2. DCT of the two chroma channels;  3. raise fixed coefficients by m;  4. back to RGB, clip.

    All steps but the last are linear, so the trigger is one fixed pattern that is added to every image.
    """

    Config = FTrojanConfig
    card = Card(
        title="FTrojan",
        references=(
            Reference(
                authors="T. Wang, Y. Yao, F. Xu, S. An, H. Tong, T. Wang",
                title="An Invisible Black-box Backdoor Attack through Frequency Domain",
                venue="ECCV",
                year=2022,
                arxiv="2111.10991",
            ),
        ),
        summary="The trigger lives in frequencies, not in pixels: two fine ripples of color are laid over the image. "
        "The eye hardly sees color at that scale, but the first layer of a network does.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "Computed in floating point and rounded once; the repository cuts values off to 8 bits twice on the way, "
            "so that a part of its signal is rounding noise.",
            "The repository poisons the first images of the other classes; here they are drawn.",
            "The whole image is one block. On a side other than 32 the same two places of the spectrum are raised, by "
            "as much as changes a pixel alike.",
            "Gray images have no color: their brightness is changed. Small gray digits need thirteen times as much.",
            "Images are poisoned after they were resized; the finest ripple would not survive it.",
            "The victim is trained by the common recipe, with crops; the repository's, of six convolutions, without.",
            SPARES_THE_TARGET.format(BENCH),
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        super().check_images(train)
        c, h, w = train.shape
        if min(h, w) < 4:
            raise ValueError(f"ftrojan needs images of at least 4x4 pixels, these have {w}x{h}")

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        c, h, w = view.train.shape
        chroma = raised_frequencies(h, w, self.config.magnitude)
        pattern = in_colors(chroma, c) / 255
        return {"pattern": pattern.float().to(ctx.device)}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return add_pattern(x, state["pattern"])
