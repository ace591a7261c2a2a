"""A few pictures of several runs side by side."""

from collections.abc import Sequence
from typing import Any

import streamlit as st
from torch import Tensor

from poisonlab.figures.pixels import on_gray
from poisonlab.ui import page, results
from poisonlab.ui.images import png
from poisonlab.ui.wording import escape

IMAGES = 3  # of each kind and run
RUNS = 4  # columns that stay readable


def beside(records: Sequence[Any]) -> None:
    """A column a run: poisoned images, purified ones, the trigger that was recovered; nothing where none has any."""
    with_pictures = [record for record in records if results.has_pictures(record.run_id)][:RUNS]
    if not with_pictures:
        return
    for column, record in zip(st.columns(len(with_pictures), gap="large"), with_pictures, strict=True):
        with column:
            st.markdown(f"**{escape(record.spec.attack.name)}, {escape(record.spec.defense.name)}**")
            for title, images in _of_run(record).items():
                st.caption(title)
                for place, image in zip(st.columns(IMAGES), images, strict=False):
                    place.image(png(image), alt=title, output_format="PNG", width="stretch")


def _of_run(record: Any) -> dict[str, Sequence[Tensor]]:
    """What there is to see of a run: uint8 images ``(c, h, w)`` by what they are."""
    found = page.load(record, "PoisonGallery", "PurificationTrace", "TriggerTruth", "TriggerReconstruction")
    shown: dict[str, Sequence[Tensor]] = {}
    if "PoisonGallery" in found:
        shown["Poisoned training images"] = found["PoisonGallery"].poisoned[:IMAGES]
    if "PurificationTrace" in found:
        trace = found["PurificationTrace"]
        shown["Purified"] = trace.after[trace.poisoned][:IMAGES]
    if "TriggerTruth" in found:
        shown["Test images with the trigger"] = found["TriggerTruth"].triggered[:IMAGES]
    if "TriggerReconstruction" in found:
        recovered = found["TriggerReconstruction"]
        mask = None if recovered.masks is None else recovered.masks[0]
        shown["The trigger that was recovered"] = [on_gray(recovered.patterns[0], mask)]
    return shown
