"""Tensors as pixels that people can see: enlarged without smoothing, differences and patterns around middle gray."""

import numpy as np
import torch
from torch import Tensor

from poisonlab.figures import png

SIDE = 192  # pixels an image is enlarged to, at least


def as_rgb(image: Tensor) -> np.ndarray:
    """uint8 ``(c, h, w)`` -> uint8 ``(h, w, 3)``."""
    return png.as_rgb(image.numpy())


def enlarged(image: Tensor, side: int = SIDE) -> np.ndarray:
    """uint8 ``(c, h, w)`` -> uint8 ``(H, W, 3)``, see :func:`poisonlab.figures.png.enlarged`."""
    return png.enlarged(as_rgb(image), side)


def amplified(before: Tensor, after: Tensor, factor: float) -> Tensor:
    """Signed difference around middle gray: 128 + factor * (after - before), uint8 like the inputs."""
    return (128 + factor * (after.float() - before.float())).round().clamp(0, 255).to(torch.uint8)


def usual_factor(before: Tensor, after: Tensor) -> int:
    """An amplification that makes the largest change about full scale."""
    largest = float((after.float() - before.float()).abs().max())
    return int(min(32, max(1, 127 // max(largest, 1))))


def as_picture(pattern: Tensor) -> tuple[Tensor, float]:
    """A signed float pattern as uint8 around middle gray, scaled by its largest entry, which comes second."""
    largest = float(pattern.abs().max())
    scaled = pattern / largest if largest > 0 else pattern
    return (127.5 * (1 + scaled)).round().clamp(0, 255).to(torch.uint8), largest


def on_gray(pattern: Tensor, mask: Tensor | None) -> Tensor:
    """A trigger as it looks on a gray image, uint8 ``(c, h, w)``: pasted by its mask, or a signed sum, scaled.

    Args:
        pattern: float ``(c, h, w)``. mask: ``(1, h, w)`` in [0, 1].
    """
    if mask is None:
        return as_picture(pattern)[0]
    return (255 * ((1 - mask) * 0.5 + mask * pattern)).round().clamp(0, 255).to(torch.uint8)
