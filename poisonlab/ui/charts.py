"""The one way to show a figure: with words for who cannot see it, and a button that saves it as a drawing."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from poisonlab.ui import shared

if TYPE_CHECKING:
    from poisonlab.figures.prepared import Prepared

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


@shared.of_arguments
def drawn(make: Callable[..., Any], *args: Any, **named: Any) -> "Prepared":
    """``make(*args, **named)``, drawn once for all who look at it.

    Args:
        make: a function of ``poisonlab.figures``, the rest what it is given.
    """
    return prepared(make(*args, **named))


def prepared(figure: Any) -> "Prepared":
    """A figure as it is sent."""
    from poisonlab.figures import prepared as figures  # noqa: PLC0415 - plotly, which the frame of a page does without

    return figures.prepared(figure)


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


def chosen(figure: Any, *, key: str, alt: str) -> list[Any]:
    """The same of a figure whose marks are chosen by a click, a box or a lasso: the ``customdata`` of all of them."""
    event = st.plotly_chart(
        _sized(figure),
        key=key,
        alt=alt,
        config=tools(key),
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
    )
    return [point["customdata"] for point in event["selection"]["points"] if "customdata" in point]


def _sized(figure: Any) -> Any:
    """The figure, or on a projector a larger one; it may be shared and stays as it is."""
    if not st.session_state.get(PROJECTOR):
        return figure
    plain = figure.to_dict()
    layout = dict(plain["layout"])
    for below in ("sliders", "updatemenus"):
        if below in layout:
            layout[below] = [_lowered(part) for part in layout[below]]
    layout["margin"] = {
        side: round(value * ENLARGED) if side in "lrtb" else value
        for side, value in layout.get("margin", {}).items()
    }
    layout["height"] = round((layout.get("height") or USUAL_HEIGHT) * ENLARGED)
    layout["font"] = layout.get("font", {}) | {"size": round(USUAL_TYPE * ENLARGED)}
    return _plain(plain | {"layout": layout})


def _lowered(part: dict[str, Any]) -> dict[str, Any]:
    """Buttons or a slider below a plot, as much farther down as the plot is larger."""
    top = part.get("pad", {}).get("t")
    return part | {"pad": part["pad"] | {"t": round(top * ENLARGED)}} if top else part


def _plain(plain: dict[str, Any]) -> "Prepared":
    from poisonlab.figures.prepared import Prepared  # noqa: PLC0415 - the same

    return Prepared(plain)


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
