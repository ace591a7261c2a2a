"""Neurons: which parts of a network a defense blames, and what removing more or fewer of them gives."""

import streamlit as st

from poisonlab.figures.curves import curve as curve_figure
from poisonlab.figures.settings import settings_curve
from poisonlab.measure.metrics import SWEPT
from poisonlab.ui import charts, glossary, neurons, page, selector, trial
from poisonlab.ui.wording import percent

page.header(
    "Neurons",
    "Which channels or weights a defense blames for the backdoor, and what cutting more or fewer of them would give.",
    "The defender must choose how much to cut from clean images alone: cut too little and the backdoor stays, "
    "too much and the model forgets its task.",
)
record = selector.choose_run(
    "neurons",
    "Here you would see which neurons a defense blames for a backdoor.",
    ("digits", "badnets", "anp"),
)
if record is None:
    st.stop()
page.headline(record)
shown = trial.choose(record, "neurons")
found = page.load(record, "SettingsCurve", "NeuronScores", "ActivationDrive", "Curve", trial=shown)

if curve := found.get("SettingsCurve"):
    st.subheader("How much to cut", anchor=False, help=glossary.help_for("setting"))
    charts.show(
        charts.drawn(settings_curve, curve),
        key="settings",
        alt="Clean accuracy and attack success at each setting of the defense",
    )
    used, oracle = (
        f"{curve.settings[i]:g} ({percent(float(curve.accuracy[i]))} accuracy, {percent(float(curve.asr[i]))} ASR)"
        for i in (curve.chosen, curve.oracle)
    )
    st.markdown(
        f"{neurons.who_chose(curve, used)} The **oracle**, which looks at the test set and the trigger, would have "
        f"chosen {oracle}. Some published tables report the oracle; no defender has it. Settings are measured on at "
        f"most {SWEPT:,} test images, the numbers above on all."
    )

if pruning := found.get("Curve"):
    st.subheader("How much was cut", anchor=False)
    charts.show(
        charts.drawn(curve_figure, pruning),
        key="pruning",
        alt=f"{pruning.y_label} by {pruning.x_label}",
    )
    st.markdown(
        "The defense prunes from left to right, and stops where its own images say that too much is lost. It looks at "
        "no test image and at no trigger."
    )

if scores := found.get("NeuronScores"):
    st.subheader("Scores by layer", anchor=False, help=glossary.help_for("mask"))
    neurons.scores(scores)

if drive := found.get("ActivationDrive"):
    st.subheader("Right or wrong", anchor=False)
    neurons.drive(drive)

st.markdown(page.about(record.spec.defense))
page.other_views(record, here="neurons")
page.reproduce(record)
