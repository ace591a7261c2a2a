"""Tensors on screen: sent as PNG, each with a caption and a description."""

from collections.abc import Sequence

import streamlit as st
from torch import Tensor

from poisonlab.figures.pixels import SIDE, enlarged
from poisonlab.figures.png import as_png, framed
from poisonlab.ui import shared


@shared.of_arguments
def png(image: Tensor, side: int = SIDE) -> bytes:
    """An image, uint8 ``(c, h, w)``, enlarged to ``side`` pixels at least and framed, as the file that is sent."""
    return as_png(framed(enlarged(image, side)))


def strip(
    title: str,
    images: Tensor,
    captions: Sequence[str],
    alts: Sequence[str],
    help: str | None = None,
    *,
    colored: bool = False,
) -> None:
    """A row of images, aligned with the rows above and below that have as many columns.

    Args:
        colored: the captions have colors, which the faint type of a caption would wash out.
    """
    st.markdown(f"**{title}**", help=help)
    for column, image, caption, alt in zip(st.columns(len(images)), images, captions, alts, strict=True):
        below = None if colored else caption
        column.image(png(image), caption=below, alt=alt, output_format="PNG", width="stretch")
        if colored:
            column.markdown("  \n".join(f":small[{line}]" for line in caption.split("  \n")))
