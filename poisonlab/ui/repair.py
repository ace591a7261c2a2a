"""In words and images: which training images a repair flagged, and what became of them."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st
import torch

from poisonlab.figures import repair as figures
from poisonlab.records.artifacts import ConfusionChange, FlagReview
from poisonlab.types import FATES
from poisonlab.ui import charts, galleries, glossary, link
from poisonlab.ui.images import strip
from poisonlab.ui.wording import escape, percent

ANY = "all"
BADGES = {
    "kept out": ":gray-badge[kept out]",
    "returned": ":green-badge[returned]",
    "relabeled": ":violet-badge[relabeled]",
}


def reading(found: FlagReview, metrics: Mapping[str, float | None]) -> str:
    """In words: how many were flagged, how many of them rightly, and what came back."""
    images = len(found.clean) + len(found.bad)
    bad = len(found.bad)
    text = (
        f"Flagged: **{found.chosen}** of {images} training images; {bad} are truly corrupted or poisoned. Of the "
        f"flagged ones **{percent(metrics.get('flag_precision'))}** are, which is "
        f"{percent(metrics.get('flag_recall'))} of all that are."
    )
    fates = [f"{int(n.sum())} {name}" for name, n in zip(FATES, found.counts, strict=True) if int(n.sum())]
    text += f" They were {' and '.join(fates)}."
    clean = metrics.get("returned_clean")
    if clean is not None:
        text += f" Of the returned ones **{percent(clean)}** are clean."
    right = metrics.get("relabeled_right")
    if right is not None:
        text += f" Of the relabeled ones {percent(right)} got their true label."
    return text


def flags(found: FlagReview, metrics: Mapping[str, float | None]) -> None:
    """Scores, precision and recall, then the flagged images along their ranks."""
    st.subheader("Who is flagged", anchor=False, help=glossary.help_for("flag_precision"))
    left, right = st.columns(2, gap="medium")
    charts.show(
        charts.drawn(figures.score_histogram, found),
        key="scores",
        alt="Scores of clean and of corrupted training images",
        place=left,
    )
    charts.show(
        charts.drawn(figures.precision_recall, found),
        key="precision",
        alt="Precision and recall against the number of flagged images",
        place=right,
    )
    st.markdown(reading(found, metrics))
    st.subheader("What becomes of them", anchor=False, help=glossary.help_for("fate"))
    charts.show(
        charts.drawn(figures.ranks, found),
        key="ranks",
        alt="Scores of flagged images by rank, colored by what became of them",
    )
    st.caption(
        f"A sample of {len(found.images)} of the {found.chosen} flagged images, evenly along their ranks. Filled marks "
        "are truly corrupted or poisoned, open ones clean: the defender cannot see that."
    )
    gallery(found)


def gallery(found: FlagReview) -> None:
    """The images with given, true and new label."""
    present = [name for number, name in enumerate(FATES) if bool((found.fate == number).any())]
    options = [ANY, *present]
    link.hint_choice("fate", "fate", options)
    chosen = link.segments(
        st,
        "Show",
        options,
        default=ANY,
        key="fate",
    )
    wanted = torch.ones_like(found.is_bad) if chosen == ANY else found.fate == FATES.index(str(chosen))
    rows = wanted.nonzero().squeeze(1)
    part = rows[galleries.turn(len(rows), "flagged")]
    captions = []
    alts = []
    for row in part.tolist():
        given, true = (escape(found.classes[int(labels[row])]) for labels in (found.given, found.true))
        fate = FATES[int(found.fate[row])]
        lines = [f"{int(found.rank[row])}. {BADGES[fate]}", f"labeled **{given}**"]
        lines.append("corrupted image" if given == true and bool(found.is_bad[row]) else f"is {true}")
        if fate == "relabeled":
            lines.append(f"now {escape(found.classes[int(found.used[row])])}")
        captions.append("  \n".join(lines))
        alts.append(f"flagged training image labeled {given}, {fate}")
    strip(
        "Flagged images",
        found.images[part],
        captions,
        alts,
        "By rank; the true label is for the reader alone.",
    )


def confusions(found: ConfusionChange) -> None:
    """Answers to each class before and after."""
    st.subheader("Who is taken for whom", anchor=False, help=glossary.help_for("confusion"))
    left, right = st.columns(2, gap="medium")
    for column, name, after in ((left, "Before the repair", False), (right, "After it", True)):
        column.markdown(f"**{name}**")
        charts.show(
            charts.drawn(figures.confusion, found, after),
            key=f"confusion-{after}",
            alt=f"Confusion matrix {name.lower()}: true class by answer",
            place=column,
        )


def over_flagging(rows: pd.DataFrame) -> None:
    """Accuracy against the share of images that was flagged, for all repairs of one attack.

    Args:
        rows: of ``store.flags``, at least one with a clean accuracy.
    """
    charts.show(
        charts.drawn(figures.over_flagging, rows),
        key="flagging",
        alt="Clean accuracy by share of training images flagged, by defense",
    )
    st.caption(
        "All runs that differ from this one in their defense and seed alone. Small marks are seeds, lines their means. "
        "Flat lines: defenses that flag nothing, the model before any repair, one retrained with perfect knowledge. "
        "Run a repair with other values of flag_share to add points."
    )
