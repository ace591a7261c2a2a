"""The script of the app: page settings and navigation. It imports nothing heavy: pages do when they need it."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # `streamlit run` puts this script's folder there, not the repository
    sys.path.insert(0, str(ROOT))

from poisonlab.ui import charts, navigation, notices, people, theme  # noqa: E402
from poisonlab.ui.wording import WELCOME  # noqa: E402

# Before the navigation, which would otherwise fetch the page's icon from the internet for the browser's tab.
st.set_page_config(
    page_title="PoisonLab", page_icon=navigation.ICON, layout="wide", initial_sidebar_state=220
)
chosen = st.navigation(navigation.sections(), expanded=True)
people.account()
charts.projector()
theme.readable()
if chosen.title != "Home":
    st.set_page_config(page_title=f"{chosen.title} · PoisonLab")
home = chosen.title == "Home"
title = "PoisonLab" if home else chosen.title
words = WELCOME if home else ""
needs_torch = chosen.url_path not in navigation.WITHOUT_TORCH
if (
    people.may_enter()
    and notices.store_is_open(title, words)
    and (not needs_torch or notices.torch_is_loaded(title))
):
    notices.show(chosen.run)
