"""Unlearning: a model that is made to forget its task, and the backdoor that stays."""

import streamlit as st

from poisonlab import registry
from poisonlab.figures import unlearning as figures
from poisonlab.ui import charts, glossary, page, selector, trial, unlearning

page.header(
    "Unlearning",
    "Accuracy and attack success while a defense makes a model forget clean images and brings it back, epoch by epoch.",
    "Forgetting pulls task and backdoor apart: what stays when the task is gone belongs to the backdoor, and can be "
    "cut off.",
)
record = selector.choose_run(
    "unlearning", "Here you would see a model forget its task but not its backdoor.", page.UNLEARNING_DEMO
)
if record is None:
    st.stop()
page.headline(record)
shown = trial.choose(record, "unlearning")
found = page.load(record, "RepairTrace", "PredictionHistogram", "TriggerTruth", trial=shown)
truth = found.get("TriggerTruth")
attack = record.spec.attack
attacked = attack.installed and registry.attack[attack.name].poisons
target = truth.target_class if truth and truth.target_class >= 0 and attacked else None

if trace := found.get("RepairTrace"):
    st.subheader("On the way", anchor=False, help=glossary.help_for("repair_trace"))
    charts.show(
        charts.drawn(figures.repair_curves, trace),
        key="trace",
        alt="Clean accuracy and ASR by epoch in each phase of the repair",
    )
    st.markdown(f"{unlearning.path(trace)} {unlearning.phases(trace)}")
    st.caption(
        f"Measured on {trace.images} clean test images and as many triggered ones; the defense sees none of it."
    )

if histogram := found.get("PredictionHistogram"):
    st.subheader("What the model says of clean images", anchor=False, help=glossary.help_for("predictions"))
    charts.show(
        charts.drawn(figures.predictions, histogram, target),
        key="predictions",
        alt="Share of the defender's clean images given each class before and after unlearning",
    )
    st.markdown(unlearning.named(histogram, target))

st.markdown(page.about(record.spec.defense))
page.other_views(record, here="unlearning")
page.reproduce(record)
