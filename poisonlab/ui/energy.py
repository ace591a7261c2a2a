"""Energies of images, and what else tells whether a generative model is sound."""

from collections.abc import Sequence

import streamlit as st
import torch
from torch import Tensor

from poisonlab.artifacts import EnergyHistogram, ModelHealth, PurificationTrace
from poisonlab.figures.purification import ZOOMS, energy_histogram
from poisonlab.metrics import auroc, psnr
from poisonlab.ui import glossary
from poisonlab.ui.wording import NONE, escape, number

HELP = glossary.help_for("energy")
FEW = 30  # images below which an AUROC says little


def histogram(energies: EnergyHistogram) -> None:
    """The three groups, how well the energy tells them apart, and where the reader looks."""
    clean, poisoned, purified = (e[torch.isfinite(e)] for e in (energies.clean, energies.poisoned, energies.purified))
    for column, name, values in zip(
        st.columns(3), ("poisoned", "purified"), (poisoned, purified), strict=False
    ):  # fmt: skip
        known = len(clean) and len(values)
        column.metric(
            f"AUROC, {name} against clean", f"{auroc(clean, values):.3f}" if known else NONE, border=True,
            help=glossary.help_for("auroc"),
        )  # fmt: skip
    zoom = st.segmented_control(
        "Show", list(ZOOMS), default=next(iter(ZOOMS)), required=True, key="zoom", bind="query-params",
        help="Poison can lie so far out that the other two become one bar.",
    )  # fmt: skip
    st.plotly_chart(
        energy_histogram(energies, zoom),
        key="energies",
        alt="Histogram of the energies of clean, poisoned and purified images",
    )
    st.markdown(
        "If poisoned images lie to the right of clean ones, the model finds them unnatural and the walk has somewhere "
        "to go. Purified images should lie where the clean ones do: an AUROC near 0.5. Far below it they look *more* "
        "natural to the model than real images: the walk went on too long, or into a hollow of the model's own."
    )
    if len(poisoned) < FEW:
        st.caption(f"Only {len(poisoned)} poisoned images: their AUROC is a rough number.")


def soundness(healths: Sequence[ModelHealth], trace: PurificationTrace | None) -> None:
    """What each generative model was worth when it was used, and how near to the clean image purified ones are."""
    if not healths and trace is None:
        return
    st.subheader("Is the generative model sound?", anchor=False)
    for health in healths:
        st.markdown(escape(health.verdict))
        _metrics([(f"health_{name}", number(value, 4)) for name, value in health.values.items()])
    if trace is not None:
        st.markdown("In this run, on the training images shown on the Purification page, against the clean images:")
        rows = {"untouched_purified": (trace.after, ~trace.poisoned), "poisoned_given": (trace.before, trace.poisoned),
                "poisoned_purified": (trace.after, trace.poisoned)}  # fmt: skip
        _metrics(
            [(f"psnr_{name}", decibels(psnr(x[which], trace.original[which]))) for name, (x, which) in rows.items()]
        )


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
