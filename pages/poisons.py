"""Poisons: what an attack changed in the training set, image by image."""

import streamlit as st
import torch

from poisonlab.figures import poisons as figures
from poisonlab.ui import charts, galleries, glossary, page, selector

page.header(
    "Poisons",
    "Training images before and after the attack, and the difference made visible.",
    "A poison works because nobody notices it: look at how little is enough, and whether you would have caught it.",
)
record = selector.choose_run(
    "poisons", "Here you would see poisoned training images beside their originals.", page.BACKDOOR_DEMO
)
if record is None:
    st.stop()
page.headline(record)
found = page.load(record, "PoisonGallery", "TargetGallery")

if gallery := found.get("PoisonGallery"):
    st.subheader("Before and after", anchor=False)
    galleries.poisons(gallery)
    st.markdown(page.about(record.spec.attack))
    st.caption(galleries.amount(gallery))

if gallery and not torch.equal(gallery.clean, gallery.poisoned):
    st.subheader("Spectrum of the perturbation", anchor=False, help=glossary.help_for("spectrum"))
    figure, words = st.columns([3, 2], gap="medium")
    charts.show(
        charts.drawn(figures.spectrum, gallery.clean, gallery.poisoned),
        key="spectrum",
        alt="Average log magnitude of the perturbation's Fourier transform, zero frequency in the middle",
        place=figure,
    )
    words.markdown(
        "The perturbation of every image is split into waves; bright spots are the waves it is made of, "
        "averaged over the images shown. **The middle** is a change of overall brightness, **the rim** is "
        "change from pixel to pixel.\n\nA patch spreads over all frequencies. Optimized noise often sits "
        "where the network is sensitive and the eye is not. Blurring removes the rim first."
    )

if targets := found.get("TargetGallery"):
    st.subheader("The targets", anchor=False)
    hit = int((targets.predicted_undefended == targets.adversarial_labels).sum())
    held = int((targets.predicted_defended == targets.adversarial_labels).sum())
    st.markdown(
        f"The attacker wants {len(targets.images)} chosen images misread and never touches them. Without a "
        f"defense **{hit}** of them are given the adversarial class, with it **{held}**."
    )
    galleries.targets(targets)

if not found:
    st.info("The images of this run cannot be read; its numbers are above.")

page.other_views(record, here="poisons")
page.reproduce(record)
