"""Lessons: what there is to learn here, in an order that makes sense."""

import streamlit as st

from poisonlab.ui import lesson, page

page.header(
    "Lessons",
    "Seven small experiments that run while you watch, each about one idea of the attacks and defenses on this site.",
    "Every lesson asks you to predict first: what surprises you is what you will remember. The link in the address "
    "bar keeps your settings and your answer, so it can be handed to somebody else.",
)
lesson.index()
st.caption(
    "Everything is computed on this machine when you ask for it. Nothing here needs more than a first course."
)
