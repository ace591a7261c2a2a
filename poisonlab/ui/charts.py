"""The one way to show a figure: with words for who cannot see it, and a button that saves it as a drawing."""

import re
from typing import Any

import streamlit as st

PROJECTOR = "projector"  # the switch, in the URL
ENLARGED = 1.5  # type and height of figures on a projector, against usual
USUAL_TYPE = 13
USUAL_HEIGHT = 340


def projector() -> None:
    """A switch below the menu: figures that the last row can read."""
    st.sidebar.toggle(
        "Projector",
        key=PROJECTOR,
        bind="query-params",
        help="Larger type and marks in all figures, for a class. The browser enlarges all other text.",
    )


def show(figure: Any, *, key: str, alt: str, place: Any = st) -> None:
    """Draw a figure on the page, or in the column ``place``; the camera above it saves an SVG."""
    place.plotly_chart(_sized(figure), key=key, alt=alt, config=tools(key))


def clicked(figure: Any, *, key: str, alt: str) -> list[Any] | None:
    """The same of a figure whose marks open something: the ``customdata`` of the mark that was just clicked."""
    event = st.plotly_chart(
        _sized(figure), key=key, alt=alt, config=tools(key), on_select="rerun", selection_mode="points"
    )
    points = event["selection"]["points"]
    found: list[Any] | None = points[0].get("customdata") if points else None
    return found


def _sized(figure: Any) -> Any:
    """The figure, or on a projector a larger one."""
    if not st.session_state.get(PROJECTOR):
        return figure
    layout = figure.layout
    below = [part for part in (*layout.sliders, *layout.updatemenus) if part.pad.t]
    for part in below:
        part.pad.t = round(part.pad.t * ENLARGED)
    margin = {side: round(layout.margin[side] * ENLARGED) for side in "lrtb" if layout.margin[side]}
    height = round((layout.height or USUAL_HEIGHT) * ENLARGED)
    return figure.update_layout(font_size=round(USUAL_TYPE * ENLARGED), height=height, margin=margin)


def tools(name: str) -> dict[str, Any]:
    """What the buttons of a figure do: the camera saves a drawing, which papers and slides enlarge without loss.

    The button that uploads a figure to a service of plotly's is left out, and has no address to send it to.
    """
    return {
        "toImageButtonOptions": {"format": "svg", "filename": f"poisonlab_{plain(name)}"},
        "showSendToCloud": False,
        "plotlyServerURL": "",
    }


def plain(name: str) -> str:
    """A name that every system takes for a file."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60] or "figure"
