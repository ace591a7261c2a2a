"""Repair: which training images are held against a model, what becomes of them, and what it is worth."""

import streamlit as st

from poisonlab.ui import detection, glossary, page, repair, results, selector, trial

page.header(
    "Repair",
    "Training images that a defense holds harmful, what it does with each, and the model before and after.",
    "Whoever hunts bad data also catches good data: a repair has to give back what it took by mistake.",
)
record = selector.choose_run(
    "repair",
    "Here you would see suspected training images sorted into harmful and useful ones.",
    page.REPAIR_DEMO,
)
if record is None:
    st.stop()
page.headline(record)
shown = trial.choose(record, "repair")
found = page.load(record, "FlagReview", "ConfusionChange", "SampleSuspicion", trial=shown)

if flagged := found.get("FlagReview"):
    repair.flags(flagged, record.metrics)
if suspicion := found.get("SampleSuspicion"):
    detection.samples(suspicion, record.metrics.get("sample_auroc"))
if change := found.get("ConfusionChange"):
    repair.confusions(change)

rows = results.flags(record.run_id)
if rows["flag_share"].notna().any():
    st.subheader("What over-flagging costs", anchor=False, help=glossary.help_for("flagged"))
    if rows["clean_accuracy"].isna().all():
        page.all_collapsed()
    else:
        repair.over_flagging(rows)

st.markdown(page.about(record.spec.defense))
page.other_views(record, here="repair")
page.reproduce(record)
