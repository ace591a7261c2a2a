"""Purification: training images before and after a defense cleaned them."""

import streamlit as st
import torch

from poisonlab.figures import purification as figures
from poisonlab.metrics import auroc
from poisonlab.ui import galleries, glossary, page, selector
from poisonlab.ui.wording import escape, number

page.header(
    "Purification",
    "Training images as the attacker left them, as the defense returned them, and what an energy model thinks of them.",
    "Purification must wipe out a perturbation it has never seen and yet leave the picture alone; here you "
    "see whether it did both.",
)
record = selector.choose_run("purification", "Here you would see images before and after purification.",
                         page.TARGETED_DEMO)  # fmt: skip
if record is None:
    st.stop()
page.headline(record.metrics)
found = page.load(record, "PurificationTrace", "EnergyHistogram", "ModelHealth")

if trace := found.get("PurificationTrace"):
    st.subheader("Before and after", anchor=False, help=glossary.help_for("psnr"))
    st.markdown(page.about(record.spec.defense))
    which = st.segmented_control(
        "Images", ["poisoned", "untouched"], default="poisoned", required=True, key="which", bind="query-params",
        help="Poisoned images should lose their perturbation; untouched ones should stay as they are.",
    )  # fmt: skip
    rows = trace.poisoned if which == "poisoned" else ~trace.poisoned
    galleries.purified(trace.original[rows], trace.before[rows], trace.after[rows])

if energies := found.get("EnergyHistogram"):
    st.subheader("Energy", anchor=False, help=glossary.help_for("energy"))
    clean, poisoned, purified = (e[torch.isfinite(e)] for e in (energies.clean, energies.poisoned, energies.purified))
    if min(len(clean), len(poisoned), len(purified)):
        left, right, _ = st.columns(3)
        for column, name, values in ((left, "poisoned", poisoned), (right, "purified", purified)):
            column.metric(
                f"AUROC, {name} against clean", f"{auroc(clean, values):.3f}", border=True,
                help=glossary.help_for("auroc"),
            )  # fmt: skip
    zoom = st.toggle("Zoom in on clean and purified images", key="zoom", bind="query-params")
    st.plotly_chart(
        figures.energy_histogram(energies, zoom),
        key="energies",
        alt="Histogram of the energies of clean, poisoned and purified images",
    )
    st.markdown(
        "If poisoned images lie to the right of clean ones, the model finds them unnatural and the walk has "
        "somewhere to go. Purified images should lie where the clean ones do."
    )

if health := found.get("ModelHealth"):
    st.subheader("Is the generative model sound?", anchor=False)
    st.markdown(escape(health.verdict))
    for column, (name, value) in zip(st.columns(max(3, len(health.values))), health.values.items(), strict=False):
        meaning = glossary.define(f"health_{name}")
        column.metric(meaning.label, number(value, 4), border=True, help=meaning.text)

page.other_views(record, here="purification")
page.reproduce(record)
