"""Tensors on screen: sent as PNG, each with a caption and a description."""

from collections.abc import Sequence

import streamlit as st
from torch import Tensor

from poisonlab.figures.pixels import enlarged


def strip(
    title: str, images: Tensor, captions: Sequence[str], alts: Sequence[str], help: str | None = None
) -> None:
    """A row of images, aligned with the rows above and below that have as many columns."""
    st.markdown(f"**{title}**", help=help)
    for column, image, caption, alt in zip(st.columns(len(images)), images, captions, alts, strict=True):
        column.image(enlarged(image), caption=caption, alt=alt, output_format="PNG", width="stretch")
