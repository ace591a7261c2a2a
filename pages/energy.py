"""Energy: what an energy model thinks of clean, poisoned and purified images, and whether it can be trusted."""

import streamlit as st

from poisonlab.ui import energy, navigation, page, selector
from poisonlab.ui.wording import escape

page.header(
    "Energy",
    "How natural clean, poisoned and purified training images look to the generative model that purified them.",
    "Purification follows the energy downhill: where poison does not raise it, or where the model is unsound, there "
    "is no reason why the walk should take the poison away.",
)
record = selector.choose_run(
    "energy", "Here you would see the energies of images before and after purification.", page.TARGETED_DEMO
)
if record is None:
    st.stop()
page.headline(record)
found = page.load(record, "EnergyHistogram", "PurificationTrace")

st.subheader("Energies", anchor=False, help=energy.HELP)
if energies := found.get("EnergyHistogram"):
    energy.histogram(energies)
elif (trace := found.get("PurificationTrace")) and not trace.poisoned.any():
    st.info("Nothing was poisoned in this run: there are no energies to compare.")
else:
    st.info(
        f"{escape(record.spec.defense.name)} has no energy model: there are no energies to show. A diffusion model "
        "only knows which noise an image seems to hold, not how natural it looks."
    )

energy.soundness(page.load_all(record, "ModelHealth"), found.get("PurificationTrace"))
navigation.link("purification", "The images themselves", run=record.run_id)
st.markdown(page.about(record.spec.defense))

page.other_views(record, here="energy")
page.reproduce(record)
