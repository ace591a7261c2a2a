"""Langevin: the walk that purifies an image, step by step; a diffusion model's way into noise and back, too."""

import streamlit as st

from poisonlab.ui import beside, langevin, page, selector
from poisonlab.ui.galleries import AT_ONCE
from poisonlab.ui.wording import escape

page.header(
    "Langevin",
    "Noisy walks, downhill in energy or into noise and back, from clean images and from their poisoned versions.",
    "One walk too short leaves the poison in, one too long makes another image: the art is where to stop.",
)
record = selector.choose_run(
    "langevin", "Here you would follow the walk that purifies an image.", page.TARGETED_DEMO
)
if record is None:
    st.stop()
page.headline(record)
trace = page.load(record, "LangevinTrace").get("LangevinTrace")
if trace is None:
    st.info("The chains of this run cannot be read; its numbers are above.")
    page.reproduce(record)
    st.stop()

films = st.container()
recorded = trace.clean_images.shape[1]
name, others = beside.choose(
    record,
    "LangevinTrace",
    1,
    "A run of another defense against the same poisons: the same images, walked otherwise.",
)
walks = [langevin.Walk(name, record, trace)]
for label, other in others:
    found = page.load(other, "LangevinTrace").get("LangevinTrace")
    if found is None:
        continue
    mine, yours = beside.shared(trace, [found])
    if mine.clean_images.shape[1]:
        walks = [langevin.Walk(name, record, mine), langevin.Walk(label, other, yours, "_beside")]
    else:
        st.warning(f"The run of {escape(label)} recorded walks of other images.")

image = langevin.choose_image(walks[0].trace, recorded)
alone = len(walks) == 1
with films:
    for column, walk in zip(st.columns(len(walks), gap="large"), walks, strict=True):
        with column:
            if not alone:
                st.markdown(f"**{escape(walk.name)}**")
            langevin.film(walk, image, AT_ONCE // len(walks))
for column, walk in zip(st.columns(len(walks), gap="large"), walks, strict=True):
    with column:
        langevin.plots(walk, image, alone)
st.markdown(
    "Both walks of an image meet the same noise: what tells them apart is the poison. Where they come together, the "
    "walk has forgotten which one was poisoned; where they stay apart, the poison survives."
    if trace.same_noise
    else "In this older run the two walks of an image met different noise, which keeps them apart even where the "
    "poison is gone."
)

st.subheader("How many steps?", anchor=False)
st.latex(r"\lVert (x+\delta) - \Psi_T(x+\delta) \rVert_2 \;>\; \lVert x - \Psi_T(x+\delta) \rVert_2")
st.markdown(
    "PureGen (section 3.4) takes the first step T at which the walk Ψ is farther from the poisoned image x+δ it "
    "started from than from the clean image x it should return to. "
    + " ".join(langevin.rule(walk) for walk in walks)
)
page.other_views(record, here="langevin")
page.reproduce(record)
