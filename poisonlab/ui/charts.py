"""The one way to show a figure: with words for who cannot see it, and a button that saves it as a drawing."""

import re
from typing import Any

import streamlit as st


def show(figure: Any, *, key: str, alt: str, place: Any = st) -> None:
    """Draw a figure on the page, or in the column ``place``; the camera above it saves an SVG."""
    place.plotly_chart(figure, key=key, alt=alt, config=save_as_svg(key))


def clicked(figure: Any, *, key: str, alt: str) -> list[Any] | None:
    """The same of a figure whose marks open something: the ``customdata`` of the mark that was just clicked."""
    event = st.plotly_chart(
        figure, key=key, alt=alt, config=save_as_svg(key), on_select="rerun", selection_mode="points"
    )
    points = event["selection"]["points"]
    found: list[Any] | None = points[0].get("customdata") if points else None
    return found


def save_as_svg(name: str) -> dict[str, Any]:
    """What the camera button of a figure saves: a drawing, which papers and slides enlarge without loss."""
    return {"toImageButtonOptions": {"format": "svg", "filename": f"poisonlab_{plain(name)}"}}


def plain(name: str) -> str:
    """A name that every system takes for a file."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60] or "figure"
