"""Experiment: choose, see what it costs, run."""

import streamlit as st

from poisonlab.ui import experiment, link, matrix, page

page.header(
    "Experiment",
    "Choose an attack, a defense and a dataset, set what you want to change, and queue one run or a whole matrix.",
    "Every value shown decides the result and is stored with it, so anybody can measure the same again.",
)
experiment.start_from_run()
mode = link.segments(
    st,
    "What to queue",
    ["one experiment", "matrix"],
    default="one experiment",
    key="mode",
    help="A matrix queues every combination of several choices, with the preset's values.",
)
if mode == "matrix":
    matrix.matrix()
else:
    experiment.single()
