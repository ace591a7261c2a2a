"""Tensors on screen: sent as PNG, each with a caption and a description."""

from collections.abc import Sequence

import streamlit as st
from torch import Tensor

from poisonlab.figures.pixels import SIDE, enlarged
from poisonlab.figures.png import as_png
from poisonlab.ui import shared


@shared.of_arguments
def png(image: Tensor, side: int = SIDE) -> bytes:
    """An image, uint8 ``(c, h, w)``, enlarged to ``side`` pixels at least, as the file that is sent."""
    return as_png(enlarged(image, side))


def strip(
    title: str, images: Tensor, captions: Sequence[str], alts: Sequence[str], help: str | None = None
) -> None:
    """A row of images, aligned with the rows above and below that have as many columns."""
    st.markdown(f"**{title}**", help=help)
    for column, image, caption, alt in zip(st.columns(len(images)), images, captions, alts, strict=True):
        column.image(png(image), caption=caption, alt=alt, output_format="PNG", width="stretch")
