"""Pictures of one's own in the browser: a ZIP is unpacked, shown, and kept as a dataset."""

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import streamlit as st

from poisonlab.data import own
from poisonlab.data.base import DataError
from poisonlab.data.shared.own_folder import Found, look, odd
from poisonlab.data.shared.pixels import Fit, read_fitted
from poisonlab.data.shared.unzip import unpack
from poisonlab.runner import runtime
from poisonlab.runner.rules import NotAllowed
from poisonlab.ui import images, navigation, people, theme
from poisonlab.ui.wording import escape

MOST_MB = 100  # of an upload; the command line takes any folder
SIZES = (16, 32, 64, 96, 128)
FITS = {
    "crop": "cut the middle out",
    "stretch": "stretch it",
    "pad": "add black borders",
}
SHOWN = 8  # pictures in a row of the preview
SHOWN_ODD = 5
WAITING = ".upload-"  # begins the names of folders that somebody is looking at
LEFT_ALONE = 24 * 3600.0  # seconds after which such a folder is forgotten
_HELD = "own_pictures"


def bring() -> None:
    """Upload, preview, name, add."""
    try:
        runtime.get().runner.rules.check_upload(people.person())
    except NotAllowed as error:
        st.info(escape(error))
        return
    upload = st.file_uploader(
        "A ZIP with a folder for each class; or train and test with such folders; or a .csv of names and labels",
        type="zip",
        max_upload_size=MOST_MB,
    )
    if upload is None:
        _forget()
        st.markdown(
            f"JPEG, PNG, WebP, BMP or PPM, ten or more of each class, {MOST_MB} MB at most. Larger sets: "
            "*poisonlab data add FOLDER --name NAME* on the machine itself."
        )
        return
    try:
        brought = _brought(upload)
    except (DataError, OSError) as error:
        st.error(escape(_without_folder(str(error))), icon=":material/error:")
        return
    _preview(brought)
    _add(brought.found, upload.name)


def kept() -> None:
    """The sets that are there already."""
    sets = own.own_sets()
    if not sets:
        return
    st.subheader("Your datasets")
    for name, made in sets.items():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{escape(name)}**  \n{escape(made.card.summary)}", width="stretch")
            navigation.link("experiment", "Set up an experiment", new_dataset=name)
            if people.person().administrator and st.button("Remove", key=f"remove_{name}"):
                with suppress(DataError):  # somebody else was faster
                    own.remove(name)
                    runtime.get().store.audit.note(people.name(), "removed pictures", name)
                st.rerun()


# -- one upload ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brought:
    """What an upload holds.

    Attributes:
        left_out: what was no picture, and how often. odd: pictures that differ from what one expects, and how.
    """

    found: Found
    left_out: dict[str, int]
    odd: list[tuple[Path, str]]


def _brought(upload: Any) -> Brought:
    """What an upload holds; unpacked and looked through once a session.

    Raises:
        DataError: it cannot be used.
    """
    held = st.session_state.get(_HELD)
    if held is not None and held[0] == upload.file_id and held[2] is not None:
        known: Brought = held[2]
        return known
    _forget()
    folder = _waiting_room()
    st.session_state[_HELD] = upload.file_id, folder, None
    left_out = unpack(upload, folder)
    found = look(folder)
    brought = Brought(found, {**left_out, **found.skipped}, odd(found))
    st.session_state[_HELD] = upload.file_id, folder, brought
    return brought


def _waiting_room() -> Path:
    """A new folder beside the sets; those that nobody came back to are removed."""
    root = own.own_folder()
    root.mkdir(parents=True, exist_ok=True)
    for path in root.glob(f"{WAITING}*"):
        if time.time() - path.stat().st_mtime > LEFT_ALONE:
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=WAITING, dir=root))


def _forget() -> None:
    held = st.session_state.pop(_HELD, None)
    if held is not None:
        shutil.rmtree(held[1], ignore_errors=True)


def _preview(brought: Brought) -> None:
    """A few pictures, the classes, what is odd."""
    found = brought.found
    some = found.train[:: max(1, len(found.train) // SHOWN)][:SHOWN]
    shown = [path for path, _ in some]
    labels = [found.classes[label] for _, label in some]
    with suppress(DataError):  # what cannot be read is named below, or when the set is added
        tensors = read_fitted(shown, 64, "crop", True, "")
        images.strip(
            "A few of them", tensors, [escape(label) for label in labels], [f"picture of {x}" for x in labels]
        )
    st.markdown(
        f"{len(found.train):,} pictures for training, {len(found.test):,} for tests, {len(found.classes)} classes; "
        f"read as {escape(found.layout)}."
    )
    left, right = st.columns(2, gap="large")
    left.dataframe(
        pd.DataFrame(found.counts(), columns=["class", "training", "tests"]),
        hide_index=True,
        height=min(300, 38 * (len(found.classes) + 1)),
        alt="Pictures of each class",
    )
    with right:
        for why, number in sorted(brought.left_out.items()):
            st.caption(f"Left out: {number:,} {escape(why)}")
        for path, why in brought.odd[:SHOWN_ODD]:
            st.caption(f"Odd: {escape(path.name)}, {escape(why)}")


def _add(found: Found, upload: str) -> None:
    """Name, size, and the button."""
    first, second, third = st.columns(3)
    name = first.text_input("Name", _suggested(upload), help="Small letters, digits and underscores.")
    side = second.selectbox(
        "Side of the images (pixels)", SIZES, index=SIZES.index(64), help="Larger takes longer."
    )
    fit = third.selectbox(
        "A picture that is not square",
        get_args(Fit),
        format_func=FITS.__getitem__,
        help="How it becomes a square.",
    )
    if not st.button("Add as a dataset", type=theme.main_button(), icon=":material/add_photo_alternate:"):
        return
    try:
        with st.spinner("Decoding the pictures"):
            dataset = own.add(name, found, side, fit)
    except DataError as error:
        st.error(escape(_without_folder(str(error))), icon=":material/error:")
        return
    runtime.get().store.audit.note(people.name(), "added pictures", dataset)
    _forget()
    navigation.go("experiment", new_dataset=dataset)


def _without_folder(text: str) -> str:
    """A message without the place where the upload was unpacked, which nobody knows."""
    held = st.session_state.get(_HELD)
    return text.replace(f"{held[1]}/", "").replace(str(held[1]), "the archive") if held else text


def _suggested(upload: str) -> str:
    """A name out of the archive's."""
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in Path(upload).stem.lower())
    return letters.strip("_")[:40] or "pictures"
