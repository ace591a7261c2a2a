"""Crafting: how poisons are optimized through training itself, and where they lead a network's weights."""

import streamlit as st

from poisonlab.figures import crafting as figures
from poisonlab.ui import charts, crafting, glossary, page, selector

page.header(
    "Crafting",
    "Poisons that were optimized by differentiating through K steps of training, and the path on which they lead a "
    "network.",
    "A poison is not aimed at a finished model: it bends training, a little in each step, at every age of a network.",
)
record = selector.choose_run(
    "crafting",
    "Here you would see poisons pull the weights of a network to where it misreads one image.",
    page.CRAFTING_DEMO,
)
if record is None:
    st.stop()
page.headline(record)
trace = page.load(record, "Crafting").get("Crafting")
if trace is None:
    st.info("How these poisons were crafted cannot be read; the numbers are above.")
    page.reproduce(record)
    st.stop()

st.subheader("Paths through weight space", anchor=False, help=glossary.help_for("weight_path"))
left, right = st.columns(2, gap="medium")
charts.show(
    charts.drawn(figures.paths, trace),
    key="paths",
    alt="Paths of two trainings in a plane of weight space, without and with poison",
    place=left,
)
charts.show(
    charts.drawn(figures.path_losses, trace),
    key="losses",
    alt="Adversarial loss of the target by epoch, without and with poison",
    place=right,
)
st.markdown(
    f"{page.about(record.spec.attack)} {crafting.outcome(trace)} Both are trainings of the attacker's own for the "
    "first of this run's targets; the numbers at the top are those of the real victims."
)

st.subheader("Step by step", anchor=False, help=glossary.help_for("adversarial_loss_unrolled"))
charts.show(
    charts.drawn(figures.curves, trace),
    key="curves",
    alt="Adversarial loss by crafting step: surrogates unrolled and not, and networks trained on the poisons so far",
)
st.markdown(
    "Crafting looks K steps ahead, not to the end of training: its own loss stays noisy and nearly flat. Whether the "
    "poisons work shows only in networks that are trained on them: the squares, from random noise at step 0 on."
)

st.subheader("What became of the images", anchor=False, help=glossary.help_for("color_shift"))
crafting.images(trace)

st.subheader("How much of the bound is used", anchor=False, help=glossary.help_for("perturbation_size"))
figure, words = st.columns([3, 2], gap="medium")
charts.show(
    charts.drawn(figures.changes, trace),
    key="changes",
    alt="Histogram of the change of pixels relative to the bound",
    place=figure,
)
words.markdown(
    f"{crafting.held_back(trace)}\n\nMoving every image straight towards the target within the same bound costs "
    "nothing, and on small images it can work better. Run the attack **pixel_collision** with the same seed: it "
    "has the same targets and changes the same images. **random_perturbation** tells what noise of that size does."
)

page.other_views(record, here="crafting")
page.reproduce(record)
