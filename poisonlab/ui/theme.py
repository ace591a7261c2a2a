"""What looks differ in the light and in the dark."""

from typing import Literal

import streamlit as st


def main_button() -> Literal["primary", "secondary"]:
    """How the button looks that a page is about.

    In the dark the accent color is light, so that it can be read on a dark page; streamlit would write in white on it.
    """
    return "secondary" if st.context.theme.type == "dark" else "primary"
