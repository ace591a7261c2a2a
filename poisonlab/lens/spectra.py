"""Frequencies of images: what a poison adds to them, and what a purification takes away."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.data.shared.luma import brightness
from poisonlab.lens.pictures import spread
from poisonlab.pipeline.reopen import Opened

AVERAGED = 500  # images of a mean spectrum
SHOWN = 24  # images whose own spectra can be looked at
DARKEST = 1e-4  # added to amplitudes, which reach h * w, before their logarithm: a black image has one, too


@dataclass(frozen=True)
class Spectra:
    """The same training images as they were, as the attacker changed them, and as the defense left them.

    Attributes:
        images: by kind (``clean``, ``poisoned``, ``purified``), uint8 ``(k, c, h, w)``; row i is the same image in all.
        mean: by kind, float32 ``(h, w)``, see :func:`mean_spectrum`, of ``averaged`` images.
        averaged: how many images the means are of.
    """

    images: dict[str, Tensor]
    mean: dict[str, Tensor]
    averaged: int


def spectra(opened: Opened, trial: int = 0) -> Spectra:
    """Spectra of a trial's poisoned images; of some clean ones where nothing is poisoned.

    Purified images are shown where the defense purifies, and keeps each image in its row.
    """
    train = opened.attacked.splits.train
    poison = opened.attacked.poison
    chosen = spread(poison.budget, AVERAGED).to(poison.index.device)
    rows = poison.index[trial, chosen] if poison.budget else spread(len(train), AVERAGED).to(train.x.device)
    images = {"clean": train.x[rows]}
    if poison.budget:
        images["poisoned"] = poison.images[trial, chosen]
    given = list(images.values())[-1]
    learned = opened.defended.sets[trial].x
    if len(learned) == len(train) and not torch.equal(learned[rows], given):
        images["purified"] = learned[rows]
    shown = spread(len(rows), SHOWN).to(rows.device)
    return Spectra(
        {name: x[shown].cpu() for name, x in images.items()},
        {name: mean_spectrum(x).cpu() for name, x in images.items()},
        len(rows),
    )


def gray(x: Tensor) -> Tensor:
    """uint8 ``(n, c, h, w)`` -> float32 ``(n, h, w)`` in [0, 1]; of three channels the luma."""
    return brightness(x.float() / 255)[:, 0]


def amplitudes(x: Tensor) -> Tensor:
    """Absolute values of gray images' two-dimensional Fourier transform, ``(n, h, w)``, frequency 0 in the middle.

    Row ``h // 2 + f`` holds f waves from top to bottom, column ``w // 2 + f`` f waves from left to right.
    """
    transformed: Tensor = torch.fft.fftshift(torch.fft.fft2(gray(x)), dim=(-2, -1))
    return transformed.abs()


def mean_spectrum(x: Tensor) -> Tensor:
    """Logarithm, base 10, of the mean amplitude of each frequency over images: float32 ``(h, w)``."""
    return (amplitudes(x).mean(0) + DARKEST).log10()


def frequencies(size: int) -> list[int]:
    """The number of waves in each row or column of a spectrum."""
    return [place - size // 2 for place in range(size)]
