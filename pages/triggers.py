"""Triggers: the stamp that opens a backdoor, and what a defense recovered of it."""

import streamlit as st

from poisonlab.figures import triggers as figures
from poisonlab.figures.pixels import on_gray
from poisonlab.ui import charts, detection, galleries, glossary, neurons, page, selector, trial
from poisonlab.ui.images import png
from poisonlab.ui.wording import escape, number

page.header(
    "Triggers",
    "The true trigger on test images, and what a defense found out from the model alone: a trigger, a class, images.",
    "A backdoored model gives its trigger away: the search for one pattern that changes its mind on every "
    "image tends to end at the attacker's class.",
)
record = selector.choose_run(
    "triggers",
    "Here you would see a backdoor's trigger and what a defense recovers of it.",
    page.BACKDOOR_DEMO,
)
if record is None:
    st.stop()
page.headline(record)
chosen_trial = trial.choose(record, "triggers")
found = page.load(
    record,
    "TriggerTruth",
    "TriggerReconstruction",
    "NeuronScores",
    "ClassAnomaly",
    "ClassTriggers",
    "SampleSuspicion",
    trial=chosen_trial,
)

target = None
if truth := found.get("TriggerTruth"):
    st.subheader("The true trigger", anchor=False)
    if truth.target_class >= 0:
        target = truth.target_class
        goal = f"Every image that carries it should be read as **{escape(truth.classes[target])}**."
    else:
        goal = "Every image that carries it should be read as the class after its own."
    galleries.triggers(truth, record.spec.defense.name != "none")
    st.markdown(f"{page.about(record.spec.attack)} {goal} The model has never seen these test images.")

if recovered := found.get("TriggerReconstruction"):
    rounds = len(recovered.patterns)
    st.subheader("The recovered trigger", anchor=False)
    st.markdown(page.about(record.spec.defense))
    shown = 1
    if rounds > 1:
        shown = st.slider(
            "Round",
            1,
            rounds,
            1,
            key="round",
            bind="query-params",
            help="Each round starts a new search against the model as it is then.",
        )
    if truth:
        detection.side_by_side(truth, recovered, shown - 1, record.metrics if shown == 1 else {})
    mask = None if recovered.masks is None else recovered.masks[shown - 1]
    strongest = recovered.patterns[shown - 1].abs().max() if mask is None else mask.max()
    left, middle, right = st.columns([2, 3, 3], gap="medium")
    left.markdown(
        "**Pattern**", help="Gray changes nothing; an added pattern makes light or dark, a pasted one covers."
    )
    norm = float(recovered.l1_norm[shown - 1])
    left.image(
        png(on_gray(recovered.patterns[shown - 1], mask), 320),
        caption=f"round {shown}: largest entry {float(strongest):.3g}, L1 norm {number(norm)}",
        alt=f"pattern recovered in round {shown}",
        output_format="PNG",
        width="stretch",
    )
    middle.markdown("**What the model says under it**", help="Predictions for the defender's clean images.")
    charts.show(
        charts.drawn(figures.class_histogram, recovered, shown - 1, target),
        key="classes",
        alt="Share of clean images given each class under the recovered pattern",
        place=middle,
    )
    if rounds > 1:
        right.markdown(
            "**Largest class by round**",
            help="Near 100 %: one pattern still sends nearly everything to one class. Near the even split: it "
            "no longer can.",
        )
        charts.show(
            charts.drawn(figures.concentration, recovered, shown - 1),
            key="rounds",
            alt="Share of the most frequent class in each round",
            place=right,
        )
    st.markdown(galleries.reading(recovered, shown - 1, target))

if anomaly := found.get("ClassAnomaly"):
    detection.classes(anomaly, found.get("ClassTriggers"))
if suspicion := found.get("SampleSuspicion"):
    detection.samples(suspicion, record.metrics.get("sample_auroc"))

if recovered and (scores := found.get("NeuronScores")):
    st.subheader("Which weights were turned down", anchor=False, help=glossary.help_for("mask"))
    neurons.scores(scores)

if not recovered:
    st.info("The defense of this run does not search for a trigger. A run with awm shows what it recovers.")
    page.demo_button(page.BACKDOOR_DEMO)

page.other_views(record, here="triggers")
page.reproduce(record)
