"""Lens: what the networks of a run see: features, attention, frequencies, and each class by itself."""

import streamlit as st

from poisonlab.ui import lens, lens_views, link, navigation, page, selector

page.header(
    "Lens",
    "One run from inside: what its networks make of clean, poisoned and triggered pictures, and where they look.",
    "A rate says that a backdoor works; here you see how, and what a defense leaves of it.",
)
record = selector.choose_run(
    navigation.LENS,
    "Here you would look inside the networks of a run.",
    page.BACKDOOR_DEMO,
)
if record is None:
    st.stop()
page.headline(record)
if lens.has_networks(record):
    trial = lens.trial_of(record)
    views = list(lens_views.VIEWS)
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    view = link.segments(left, "View", views, key="view", default=views[0])
    lens_views.VIEWS[view](record, trial, right)
page.other_views(record, here=navigation.LENS)
page.reproduce(record)
