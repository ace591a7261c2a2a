"""Energies of images, and what else tells whether a generative model is sound."""

from collections.abc import Sequence

import streamlit as st
import torch
from torch import Tensor

from poisonlab.figures.purification import ZOOMS, energy_histogram
from poisonlab.measure.metrics import auroc, psnr
from poisonlab.records.artifacts import EnergyHistogram, ModelHealth, PurificationTrace
from poisonlab.ui import charts, glossary, link
from poisonlab.ui.wording import NONE, escape, number, percent

HELP = glossary.help_for("energy")
FEW = 30  # images below which an AUROC says little


def histogram(energies: EnergyHistogram) -> None:
    """The three groups, how well the energy separates them, and where the reader looks."""
    clean, poisoned, purified = (
        e[torch.isfinite(e)] for e in (energies.clean, energies.poisoned, energies.purified)
    )
    zoom = link.segments(
        st,
        "Show",
        list(ZOOMS),
        default=next(iter(ZOOMS)),
        key="zoom",
        help="Poison can lie so far out that the other two become one bar.",
    )
    charts.show(
        charts.drawn(energy_histogram, energies, zoom),
        key="energies",
        alt="Histogram of the energies of clean, poisoned and purified images",
    )
    groups = (("poisoned", poisoned), ("purified", purified))
    aurocs = [
        (name, f"{auroc(clean, values):.3f}" if len(clean) and len(values) else NONE)
        for name, values in groups
    ]
    columns = st.columns(3)
    for column, (name, value) in zip(columns, aurocs, strict=False):
        column.metric(f"AUROC, {name} against clean", value, border=True, help=glossary.help_for("auroc"))
    meaning = glossary.define("way_back")
    columns[2].metric(
        meaning.label, percent(way_back(clean, poisoned, purified)), border=True, help=meaning.text
    )
    st.markdown(
        "If poisoned images lie to the right of clean ones, the model finds them unnatural and the walk has somewhere "
        "to go. Purified images should lie where the clean ones do: an AUROC near 0.5 says so strictly. One near 1 "
        "says that they stay recognisable, be it by a hair: the way back tells how far they came, and zooming in how "
        "near that is. One near 0 says that they look *more* natural to the model than real images: the walk went on "
        "too long, or into a hollow of the model's own."
    )
    if len(poisoned) < FEW:
        st.caption(f"Only {len(poisoned)} poisoned images: their AUROC is a rough number.")


def way_back(clean: Tensor, poisoned: Tensor, purified: Tensor) -> float | None:
    """How much of the rise in energy purification took back, by medians; ``None`` where poison raised nothing."""
    if not min(len(clean), len(poisoned), len(purified)):
        return None
    low, high, now = (float(values.median()) for values in (clean, poisoned, purified))
    return (high - now) / (high - low) if high > low else None


def soundness(healths: Sequence[ModelHealth], trace: PurificationTrace | None) -> None:
    """What each generative model was worth when it was used, and how near to the clean image purified ones are."""
    if not healths and trace is None:
        return
    st.subheader("Is the generative model sound?", anchor=False)
    for health in healths:
        st.markdown(escape(health.verdict))
        _metrics([(f"health_{name}", _measured(name, value)) for name, value in health.values.items()])
    if trace is not None:
        st.markdown(
            "In this run, on the training images shown on the Purification page, against the clean images:"
        )
        rows = {
            "untouched_purified": (trace.after, ~trace.poisoned),
            "poisoned_given": (trace.before, trace.poisoned),
            "poisoned_purified": (trace.after, trace.poisoned),
        }
        _metrics(
            [
                (f"psnr_{name}", decibels(psnr(x[which], trace.original[which])))
                for name, (x, which) in rows.items()
            ]
        )


def _measured(name: str, value: float) -> str:
    return f"{value:.1f} dB" if name.startswith("psnr") else number(value, 4)


def _metrics(shown: Sequence[tuple[str, str]]) -> None:
    for column, (name, value) in zip(st.columns(max(3, len(shown))), shown, strict=False):
        meaning = glossary.define(name)
        column.metric(meaning.label, value, border=True, help=meaning.text)


def decibels(values: Tensor) -> str:
    """The mean over images in words; identical ones have no finite value."""
    if not len(values):
        return NONE
    finite = values[values.isfinite()]
    return f"{finite.mean():.1f} dB" if len(finite) else "identical"
