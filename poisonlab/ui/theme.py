"""What looks differ in the light and in the dark, and what the theme of streamlit has no setting for."""

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

# streamlit writes white on the accent color, which is light in the dark
DARK_CHIPS = """<style>
[data-testid="stMultiSelectTagsContainer"] [data-tag], [data-testid="stMultiSelectTagsContainer"] [data-tag] * {
    color: #12181F !important;
}
</style>"""


def readable() -> None:
    """Links and buttons show where the keyboard is; what is chosen of a list can be read in the dark, too."""
    st.html(FOCUS_RING)
    if st.context.theme.type == "dark":
        st.html(DARK_CHIPS)
