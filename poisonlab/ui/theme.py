"""What looks differ in the light and in the dark, and the one look that the theme of streamlit has no setting for."""

from typing import Literal

import streamlit as st


def main_button() -> Literal["primary", "secondary"]:
    """How the button looks that a page is about.

    In the dark the accent color is light, so that it can be read on a dark page; streamlit would write in white on it.
    """
    return "secondary" if st.context.theme.type == "dark" else "primary"


# a blue of contrast 3.5 or more against the backgrounds of both themes; streamlit marks some of these by a shade alone
FOCUS_RING = """<style>
:is(a, button, summary, [role="tab"]):focus-visible {
    outline: 2px solid #2E86D9 !important;
    outline-offset: 2px !important;
}
</style>"""


def focus_ring() -> None:
    """Links and buttons show where the keyboard is."""
    st.html(FOCUS_RING)
