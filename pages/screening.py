"""Screening: inputs that are stopped while a model is used, because they seem to carry a trigger."""

import streamlit as st

from poisonlab.ui import page, results, screening, selector

page.header(
    "Screening",
    "Inputs of a backdoored model, with the trigger and without, as a screen judges them one by one.",
    "A screen changes nothing in the model: it stops what looks as if it carried a trigger. What it wrongly stops is "
    "its price, and a model without any backdoor shows whether it sees the trigger or the backdoor.",
)
record = selector.choose_run(
    "screening",
    "Here you would see which inputs of a backdoored model are stopped, and which pass.",
    page.SCREENING_DEMO,
)
if record is None:
    st.stop()
page.headline(record)
found = page.load(record, "ScreeningReview")

if review := found.get("ScreeningReview"):
    screening.scores(review, record.metrics)
    screening.gallery(review)

compared = results.screens(record.run_id)
if len(compared):
    screening.board(compared)

st.markdown(page.about(record.spec.defense))
page.other_views(record, here="screening")
page.reproduce(record)
