"""What a defense thinks of each part of a network."""

import streamlit as st

from poisonlab.artifacts import NeuronScores
from poisonlab.figures import triggers as figures


def scores(found: NeuronScores) -> None:
    """The distribution of the scores in each layer, and where they are low."""
    left, right = st.columns(2, gap="medium")
    left.plotly_chart(
        figures.mask_histogram(found),
        key="masks",
        alt="Distribution of the scores of each layer between 0 and 1",
    )
    right.plotly_chart(figures.blamed(found), key="blamed", alt="Share of scores on the blamed side by layer")
