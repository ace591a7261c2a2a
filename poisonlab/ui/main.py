"""The script of the app: page settings and navigation. It imports nothing heavy: pages do when they need it."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # `streamlit run` puts this script's folder there, not the repository
    sys.path.insert(0, str(ROOT))

from poisonlab.ui import navigation, notices

chosen = st.navigation(navigation.sections())
title = "PoisonLab" if chosen.title == "Home" else f"{chosen.title} · PoisonLab"
st.set_page_config(page_title=title, page_icon=navigation.ICON, layout="wide", initial_sidebar_state=220)
if notices.store_is_open():
    chosen.run()
    notices.finished_jobs()
