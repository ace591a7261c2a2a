"""Four pictures that say what a backdoor is: read without torch, so that the first page stands at once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from safetensors.numpy import load

from poisonlab.figures.png import as_png, as_rgb, enlarged, framed
from poisonlab.records.migrate import HEADER
from poisonlab.records.record import read_plain
from poisonlab.runner import runtime
from poisonlab.store.shipped import MAX_FILE_BYTES
from poisonlab.ui import navigation, results, shared
from poisonlab.ui.wording import escape

PAGE = "home"  # its name among the pages that shipped runs open
ARTIFACT = "true_trigger"
SIDE = 192  # pixels of an image on the screen


@dataclass(frozen=True)
class Look:
    """A test image and what the first victim says of it.

    Attributes:
        clean, triggered: as PNG files, enlarged.
        true, victim, repaired: names of classes: what it is, and what each model says of it with the trigger.
    """

    clean: bytes
    triggered: bytes
    true: str
    victim: str
    repaired: str


def show() -> None:
    """The pictures of the run that the shipped results name for this page; nothing where there is none."""
    shipped = runtime.get().store.runs.shipped
    run_id = shipped.openers.get(PAGE)
    if run_id is None:
        return
    record = results.record(run_id)
    item = next((item for item in record.artifacts if item.name == ARTIFACT), None) if record else None
    look = _look(shipped.folder / run_id / item.file, item.sha256) if item else None
    if look is None:
        return
    true, victim, repaired = (escape(name) for name in (look.true, look.victim, look.repaired))
    cells = (
        (
            "A photograph",
            look.clean,
            f"The model says :green[**{true}**]",
            f"test image of class {look.true}",
        ),
        ("The same with a trigger", look.triggered, "A few pixels are changed", "the image with a trigger"),
        ("The poisoned model", look.triggered, f"It says :red[**{victim}**]", "the image with a trigger"),
        (
            "The same model, repaired",
            look.triggered,
            f"It says :green[**{repaired}**]",
            "the image with a trigger",
        ),
    )
    for column, (title, image, said, alt) in zip(st.columns(4), cells, strict=True):
        column.markdown(f"**{title}**")
        column.image(image, alt=alt, output_format="PNG", width=SIDE)
        column.markdown(said)
    with st.container(horizontal=True):
        st.caption("Measured, not made up:", width="content")
        navigation.link("triggers", "the run behind these pictures", run=run_id)


@shared.of_results
def _look(path: Path, sha256: str) -> Look | None:
    """The first image that the trigger turns and the repair turns back; ``None`` where the file shows none.

    Args:
        sha256: of the file, as the run's record names it; another file shows nothing.
    """
    try:
        raw = read_plain(path, MAX_FILE_BYTES)
        if hashlib.sha256(raw).hexdigest() != sha256:
            return None
        size = int.from_bytes(raw[:8], "little")
        fields = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"][HEADER])["fields"]
        return _of(load(raw), fields["classes"], fields["target_class"])
    except Exception:  # whatever bytes from anybody make the parsers raise
        return None


def _of(held: Mapping[str, np.ndarray], classes: Sequence[str], target: int) -> Look | None:
    true = held["true_labels"]
    turned = (held["clean_undefended"] == true) & (held["triggered_undefended"] == target)
    back = turned & (held["triggered_defended"] == true)
    if not back.any():
        return None
    row = int(back.argmax())
    names = ("true_labels", "triggered_undefended", "triggered_defended")
    labels = [int(held[name][row]) for name in names]
    images = [held[name][row] for name in ("clean", "triggered")]
    if min(labels) < 0 or any(image.dtype != np.uint8 or image.ndim != 3 for image in images):
        return None
    true_name, victim, repaired = (str(classes[label]) for label in labels)
    clean, triggered = (as_png(framed(enlarged(as_rgb(image), SIDE))) for image in images)
    return Look(clean, triggered, true_name, victim, repaired)
