"""Methods: every attack, defense, dataset and victim, with its paper and what it was compared with."""

import streamlit as st

from poisonlab.ui import methods, page

page.header(
    "Methods",
    "Every attack, defense, dataset and victim: what it does, who must know what for it, the paper, and how this "
    "program differs from it.",
    "A number means little without the method behind it, and a comparison only what was compared.",
)
methods.missing_plugins()
shown = methods.choose()
st.caption(f"{len(shown)} methods" if len(shown) != 1 else "One method")
if not shown:
    st.info("No method has all of these words. Take one away, or choose another kind.")
methods.show(shown)
