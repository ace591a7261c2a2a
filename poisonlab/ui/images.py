"""Tensors on screen: enlarged without smoothing, sent as PNG, each with a caption and a description."""

from collections.abc import Sequence

import numpy as np
import streamlit as st
import torch
from torch import Tensor

SIDE = 192  # pixels an image is enlarged to, at least


def enlarged(image: Tensor, side: int = SIDE) -> np.ndarray:
    """uint8 ``(c, h, w)`` -> uint8 ``(H, W, 3)``, each pixel repeated: no smoothing, no loss."""
    c, h, w = image.shape
    factor = max(1, -(-side // max(h, w)))
    pixels = image.permute(1, 2, 0).numpy()
    if c == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def amplified(before: Tensor, after: Tensor, factor: float) -> Tensor:
    """Signed difference around middle gray: 128 + factor * (after - before), uint8 like the inputs."""
    return (128 + factor * (after.float() - before.float())).round().clamp(0, 255).to(torch.uint8)


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


def strip(
    title: str, images: Tensor, captions: Sequence[str], alts: Sequence[str], help: str | None = None
) -> None:
    """A row of images, aligned with the rows above and below that have as many columns."""
    st.markdown(f"**{title}**", help=help)
    for column, image, caption, alt in zip(st.columns(len(images)), images, captions, alts, strict=True):
        column.image(enlarged(image), caption=caption, alt=alt, output_format="PNG", width="stretch")
