"""What a detector found, in pictures and in words."""

from collections.abc import Mapping

import streamlit as st
import torch

from poisonlab.figures import detection as figures
from poisonlab.figures.pixels import on_gray
from poisonlab.records.artifacts import (
    ClassAnomaly,
    ClassTriggers,
    SampleSuspicion,
    TriggerReconstruction,
    TriggerTruth,
)
from poisonlab.ui import charts, galleries, glossary
from poisonlab.ui.images import strip
from poisonlab.ui.wording import escape, number, percent


def side_by_side(
    truth: TriggerTruth, found: TriggerReconstruction, row: int, metrics: Mapping[str, float | None]
) -> None:
    """Images with the true trigger, where it changes them, and the recovered trigger."""
    changed = (truth.triggered != truth.clean).flatten(0, 1).any(0)  # (h, w)
    marked = (changed[None] * 255).to(torch.uint8)
    recovered = on_gray(found.patterns[row], None if found.masks is None else found.masks[row])
    if recovered.shape[1:] != truth.triggered.shape[2:]:
        height, width = recovered.shape[1:]
        st.info(f"The recovered trigger is {width}x{height} pixels, not as large as the images of this run.")
        return
    norm = float(found.l1_norm[row])
    images = [truth.triggered[0], recovered]
    captions = ["with the true trigger, which changes every pixel", f"recovered, L1 norm {number(norm)}"]
    if not changed.all():  # an all-white picture looks like a missing one
        images.insert(1, marked.expand(truth.clean.shape[1:]))
        captions = ["with the true trigger", f"{int(changed.sum())} pixels it changes", captions[1]]
    strip("True and recovered", torch.stack(images), captions, captions, glossary.help_for("recovered_iou"))
    asr = metrics.get("recovered_asr")
    iou = metrics.get("recovered_iou")
    if asr is not None and iou is not None:
        st.markdown(
            f"The recovered trigger sends **{percent(asr)}** of the test images of other classes to the attacker's "
            f"class, and covers the true one with an overlap (IoU) of **{iou:.2f}**. A trigger may work without "
            "lying where the true one lies: the model learned more than one way in."
        )


def classes(found: ClassAnomaly, triggers: ClassTriggers | None) -> None:
    """Scores of all classes, victim beside control, and the verdict on both."""
    st.subheader("Which class stands out", anchor=False, help=glossary.help_for("detected"))
    charts.show(
        charts.drawn(figures.class_anomaly, found),
        key="anomaly",
        alt="Score of each class in the victim and in the control",
    )
    st.markdown(verdict(found))
    if triggers is None:
        return
    part = galleries.turn(len(triggers.labels), "class_triggers")
    names = [escape(triggers.classes[int(label)]) for label in triggers.labels[part]]
    pairs = list(zip(triggers.patterns[part], triggers.masks[part], strict=True))
    strip(
        "The smallest trigger found for each class",
        torch.stack([on_gray(pattern, mask) for pattern, mask in pairs]),
        [f"{name}: {float(mask.sum()):.3g}" for name, (_, mask) in zip(names, pairs, strict=True)],
        [f"smallest trigger found for class {name}" for name in names],
        "The number is the L1 norm of the mask. Gray leaves the image as it is.",
    )


def verdict(found: ClassAnomaly) -> str:
    """In words: what the detector says of the victim and of the control, and whether it is right."""
    if found.named < 0 and found.target_class < 0:
        text = "The detector names no class of the victim; what was done to it leads to no single class."
    elif found.named < 0:
        missed = escape(found.classes[found.target_class])
        text = f"The detector names no class: the attacker's, {missed}, **is missed**."
    else:
        name = escape(found.classes[found.named])
        right = {-1: "", found.named: ", the attacker's class"}.get(
            found.target_class, ", which is not the attacker's"
        )
        text = f"The detector says that the victim has a backdoor to **{name}**{right}."
    if found.named_control < 0:
        return f"{text} Of the control, trained without poison, it says nothing: right."
    flagged = escape(found.classes[found.named_control])
    return f"{text} But it flags the control, trained without poison, as well (**{flagged}**): a false alarm."


def samples(found: SampleSuspicion, auroc: float | None) -> None:
    """Scores of training images, and who is flagged."""
    st.subheader("Which training images stand out", anchor=False, help=glossary.help_for("sample_auroc"))
    charts.show(
        charts.drawn(figures.suspicion, found),
        key="suspicion",
        alt="Scores of clean and poisoned training images, and of the control",
    )
    reading = "" if auroc is None else f" AUROC {auroc:.3f}."
    st.markdown(
        f"Accused: **{percent(found.flagged_poisoned)}** of the poisoned images and {percent(found.flagged_clean)} of "
        f"the clean ones; {percent(found.flagged_control)} of the control's.{reading}"
    )
