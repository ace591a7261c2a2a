"""Purification: training images before and after defenses cleaned them, and what more or less of it gives."""

import streamlit as st

from poisonlab.ui import beside, glossary, navigation, page, purification, selector

page.header(
    "Purification",
    "Training images as the attacker left them and as one or more defenses returned them.",
    "Purification must wipe out a perturbation it has never seen and yet leave the picture alone; here you "
    "see whether it did both.",
)
record = selector.choose_run(
    "purification", "Here you would see images before and after purification.", page.TARGETED_DEMO
)
if record is None:
    st.stop()
page.headline(record)

if trace := page.load(record, "PurificationTrace").get("PurificationTrace"):
    st.subheader("Before and after", anchor=False, help=glossary.help_for("psnr"))
    pictures = st.container()
    name, others = beside.choose(
        record,
        "PurificationTrace",
        3,
        "Runs of other defenses against the same poisons: the same images, purified.",
    )
    found = [
        (label, other, page.load(other, "PurificationTrace").get("PurificationTrace"))
        for label, other in others
    ]
    runs = [
        (name, record, trace),
        *((label, other, shown) for label, other, shown in found if shown is not None),
    ]
    traces = beside.shared(trace, [shown for _, _, shown in runs[1:]])
    runs = [(label, other, shown) for (label, other, _), shown in zip(runs, traces, strict=True)]
    with pictures:
        purification.pictures(runs, len(trace.before))
    purification.numbers(runs)
    if {item.kind for item in record.artifacts} & set(navigation.SHOWS["energy"]):
        navigation.link(
            "energy", "What an energy model thinks of them, and whether it is sound", run=record.run_id
        )

st.markdown(page.about(record.spec.defense))
purification.strengths(record)
page.other_views(record, here="purification")
page.reproduce(record)
